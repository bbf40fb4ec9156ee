"""Captions, scored against the reference captions and beside baselines."""

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...files import json_number, write_json, write_text
from ..gathering import gather
from .baselines import baseline_captions
from .java_metrics import meteor, spice
from .metrics import score_tokenized, tokenize_captions
from .ptb import tokenize
from .truthfulness import Judges, confusion_csv, truthfulness, verdicts_on

logger = logging.getLogger(__name__)

Json = dict[str, Any]


class CaptionEvaluator(DatasetEvaluator):
    """BLEU-1 to 4, ROUGE-L and CIDEr, without Java; METEOR and SPICE where there is Java.

    Scored are the images that have both a predicted and a reference caption; docs/evaluation.md
    defines the numbers and the baselines.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        meteor: bool = True,
        spice: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: its metadata have "captions_json", in COCO's or Karpathy's format, and
                may have "sixth_captions_json", with a caption of each image that is no reference,
                and "scenes_json" with "read_judges", which makes of that file the judges of what
                captions claim.
            output_dir: gets captions_results.json, and caption_confusion.csv if there are judges.
            meteor, spice: compute these, too.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._folder = None if output_dir is None else Path(output_dir)
        self._meteor = meteor
        self._spice = spice
        self._references = read_captions(Path(metadata.captions_json))
        path = metadata.get("sixth_captions_json")
        sixth = read_captions(Path(path)) if path and Path(path).exists() else {}
        self._sixth = dict(zip(sixth, tokenize(texts[0] for texts in sixth.values()), strict=True))
        path = metadata.get("scenes_json")
        is_known = path and Path(path).exists()
        self._judges: Judges = metadata.read_judges(Path(path)) if is_known else {}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._answers: list[tuple[int, Json]] = []  # what the results file says of an image

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Keep the captions of some images."""
        for sample, output in zip(inputs, outputs, strict=True):
            if "caption" not in output:
                raise ValueError(
                    f"{self._dataset_name}: the model's output for image {sample['image_id']} has "
                    "no caption; it needs the task caption and a tokenizer (TOKENIZER.MODEL)"
                )
            answer = {"image_id": sample["image_id"], "caption": output["caption"]}
            if "caption_score" in output:
                answer["score"] = json_number(output["caption_score"])
            self._answers.append((sample["image_id"], answer))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """The numbers, in the main process; nothing elsewhere."""
        gathered = gather(self._answers)
        if gathered is None:
            return {}
        # Samplers may show an image twice, to give every process as many.
        answers = dict(reversed(gathered))
        if self._folder is not None:
            ids = sorted(answers, key=lambda i: (isinstance(i, str), i))
            write_json(self._folder / "captions_results.json", [answers[i] for i in ids])
        known = {i: answers[i]["caption"] for i in self._references if i in answers}
        if not known:
            logger.warning("%s: no image with a caption was evaluated", self._dataset_name)
            return {}
        return {"caption": self._score(known)}

    def _score(self, captions: dict[int, str]) -> dict[str, float]:
        """All numbers; the report makes a table of them."""
        references, words = tokenize_captions(self._references, captions)
        metrics = score_tokenized(references, words)
        if self._meteor:
            metrics["METEOR"] = meteor(references, words)
        if self._spice:
            metrics["SPICE"] = spice(references, words)
        baselines = baseline_captions(references, self._sixth)
        for name, answers in baselines.items():
            scores = score_tokenized(references, answers)
            metrics |= {f"{name}_{metric}": number for metric, number in scores.items()}
        metrics |= self._judge(captions, baselines)
        logger.info(
            "%s, captions of %d images; the constant caption is: %s",
            self._dataset_name,
            len(captions),
            next(iter(baselines["constant"].values())),
        )
        return metrics

    def _judge(
        self, captions: dict[int, str], baselines: dict[str, dict[int, str]]
    ) -> dict[str, float]:
        """How truthful the captions are, and those of the baselines; nothing if nobody knows."""
        verdicts = {"": verdicts_on(captions, self._judges)}
        for name, answers in baselines.items():
            verdicts[f"{name}_"] = verdicts_on(answers, self._judges)
        if self._folder is not None and self._judges:
            write_text(self._folder / "caption_confusion.csv", confusion_csv(verdicts[""]))
        return truthfulness(verdicts)


def read_captions(path: Path) -> dict[int, list[str]]:
    """The captions of each image of a file in COCO's format, or of Karpathy's dataset_coco.json.

    Images without any are left out.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None
    captions: dict[int, list[str]] = defaultdict(list)
    try:
        if "annotations" in content:
            for entry in content["annotations"]:
                captions[entry["image_id"]].append(entry["caption"])
        else:
            for image in content["images"]:
                captions[image["cocoid"]] += [sentence["raw"] for sentence in image["sentences"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no file of captions ({error!r})") from None
    return {image_id: texts for image_id, texts in captions.items() if texts}
