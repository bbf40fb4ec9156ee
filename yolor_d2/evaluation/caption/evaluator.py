"""Evaluator of captions."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...data.files.contents import read_json
from ...errors import ConfigError, FileError
from ...files import json_number, write_json, write_text
from ..gathering import gather, image_id_key
from .baselines import baseline_captions
from .java_metrics import meteor, spice
from .metrics import score_tokenized, tokenize_captions
from .ptb import tokenize
from .truthfulness import CaptionCheckers, check_captions, confusion_csv, truthfulness

logger = logging.getLogger(__name__)

Json = dict[str, Any]


class CaptionEvaluator(DatasetEvaluator):
    """BLEU-1 to 4, ROUGE-L and CIDEr without Java; METEOR and SPICE if Java is available.

    Scores the images that have both a predicted and a reference caption. docs/reference/metrics.md
    defines the metrics and the baselines.
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
            dataset_name: data set with the metadata "captions_json", in COCO's or Karpathy's
                format. Optional metadata: "sixth_captions_json", a file with one more caption per
                image that is not a reference; "scenes_json" and "read_judges", a file and a
                function that reads caption checkers from it.
            output_dir: folder of captions_results.json and, if there are checkers,
                caption_confusion.csv; None writes nothing.
            meteor, spice: compute these metrics.
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
        has_scenes = path and Path(path).exists()
        self._checkers: CaptionCheckers = metadata.read_judges(Path(path)) if has_scenes else {}
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        self._results: list[tuple[int, Json]] = []  # image id, entry of the result file

    def process(self, inputs: Sequence[Json], outputs: Sequence[Json]) -> None:
        """Store the captions of a batch."""
        for sample, output in zip(inputs, outputs, strict=True):
            if "caption" not in output:
                raise ConfigError(
                    f"{self._dataset_name}: the model's output for image {sample['image_id']} has "
                    "no caption; it needs the task caption and a tokenizer (TOKENIZER.MODEL)"
                )
            result = {"image_id": sample["image_id"], "caption": output["caption"]}
            if "caption_score" in output:
                result["score"] = json_number(output["caption_score"])
            self._results.append((sample["image_id"], result))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the metrics in the main process, {} in the others."""
        gathered = gather(self._results)
        if gathered is None:
            return {}
        # Samplers can repeat images to give all processes equal numbers: the first result counts.
        results = dict(reversed(gathered))
        if self._folder is not None:
            ids = sorted(results, key=image_id_key)
            write_json(self._folder / "captions_results.json", [results[i] for i in ids])
        captions = {i: results[i]["caption"] for i in self._references if i in results}
        if not captions:
            logger.warning("%s: no image with a caption was evaluated", self._dataset_name)
            return {}
        return {"caption": self._score(captions)}

    def _score(self, captions: dict[int, str]) -> dict[str, float]:
        """Return the metrics of the captions and, with prefixed names, of the baselines."""
        references, words = tokenize_captions(self._references, captions)
        metrics = score_tokenized(references, words)
        if self._meteor:
            metrics["METEOR"] = meteor(references, words)
        if self._spice:
            metrics["SPICE"] = spice(references, words)
        baselines = baseline_captions(references, self._sixth)
        for name, texts in baselines.items():
            scores = score_tokenized(references, texts)
            metrics |= {f"{name}_{metric}": number for metric, number in scores.items()}
        metrics |= self._truthfulness(captions, baselines)
        logger.info(
            "%s, captions of %d images; the constant caption is: %s",
            self._dataset_name,
            len(captions),
            next(iter(baselines["constant"].values())),
        )
        return metrics

    def _truthfulness(
        self, captions: dict[int, str], baselines: dict[str, dict[int, str]]
    ) -> dict[str, float]:
        """Return the truthfulness of the captions and baselines; {} without checkers."""
        checks = {"": check_captions(captions, self._checkers)}
        for name, texts in baselines.items():
            checks[f"{name}_"] = check_captions(texts, self._checkers)
        if self._folder is not None and self._checkers:
            write_text(self._folder / "caption_confusion.csv", confusion_csv(checks[""]))
        return truthfulness(checks)


def read_captions(path: Path) -> dict[int, list[str]]:
    """Read captions by image id from a file in COCO's format or Karpathy's dataset_coco.json.

    Images without captions are left out.
    """
    content = read_json(path)
    captions: dict[int, list[str]] = defaultdict(list)
    try:
        if "annotations" in content:
            for entry in content["annotations"]:
                captions[entry["image_id"]].append(entry["caption"])
        else:
            for image in content["images"]:
                captions[image["cocoid"]] += [sentence["raw"] for sentence in image["sentences"]]
    except (KeyError, TypeError) as error:
        raise FileError(f"{path}: is not a caption file ({error!r})") from None
    return {image_id: texts for image_id, texts in captions.items() if texts}
