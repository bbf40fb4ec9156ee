"""Rewards of self-critical training: CIDEr-D of sampled captions."""

import logging
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.catalog.records import read_records
from ..errors import ConfigError, DataError
from ..evaluation.caption.cider import CiderD
from ..evaluation.caption.metrics import tokenize
from ..tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]


class CaptionReward:
    """CIDEr-D with the document frequencies of the training captions.

    Args:
        references: captions by image id.
        tokenizer: decodes the sampled captions.
        end_token: count the end of a caption as one of its words.

    Attributes:
        means: mean reward of each call, over the images that have references.
        milliseconds: duration of each call. Both lists grow until they are cleared.
    """

    def __init__(
        self,
        references: Mapping[Hashable, Sequence[str]],
        *,
        tokenizer: Tokenizer,
        end_token: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.means: list[float] = []
        self.milliseconds: list[float] = []
        self.numbers = {image_id: number for number, image_id in enumerate(references)}
        words = iter(tokenize(text for texts in references.values() for text in texts))
        self.cider = CiderD(
            {
                self.numbers[image_id]: [next(words) for _ in texts]
                for image_id, texts in references.items()
            },
            end_token=end_token,
        )
        logger.info(
            "self-critical training: CIDEr-D with the captions of %d images, %s the end token",
            len(references),
            "with" if end_token else "without",
        )

    def __call__(self, image_ids: Sequence[Hashable], ids: Tensor) -> Tensor:
        """Rewards (N, K) of captions (N, K, T); 0 for images without references."""
        begin = time.perf_counter()
        described = [i for i, image_id in enumerate(image_ids) if image_id in self.numbers]
        rewards = torch.zeros(ids.shape[:2], dtype=torch.float64)
        if described:
            texts = [self.tokenizer.decode(text) for text in ids[described].flatten(0, 1).tolist()]
            numbers = [self.numbers[image_ids[i]] for i in described for _ in range(ids.shape[1])]
            scores = self.cider.score(numbers, tokenize(texts))  # (images * K,)
            rewards[described] = torch.from_numpy(scores).view(len(described), -1)
            self.means.append(float(scores.mean()))
        self.milliseconds.append(1000 * (time.perf_counter() - begin))
        return rewards


def build_reward(
    model: nn.Module, dataset_names: Sequence[str], tokenizer: Tokenizer | None
) -> CaptionReward | None:
    """The reward of a model with a self-critical caption head; None for other models.

    Args:
        model: not wrapped.
        dataset_names: of the training sets.
        tokenizer: of the captions.
    """
    options = getattr(getattr(model, "caption_head", None), "self_critical", None)
    if options is None:
        return None
    if tokenizer is None:
        raise ConfigError("MODEL.CAPTION_HEAD.SCST.SAMPLES is not 0, but there is no tokenizer")
    records = (record for name in dataset_names for record in read_records(name))
    return CaptionReward(
        references_by_image(records), tokenizer=tokenizer, end_token=options.end_token
    )


def references_by_image(records: Iterable[Record]) -> dict[Hashable, Sequence[str]]:
    """The captions of records by image id.

    Raises:
        ValueError: records of different files have the same image id.
    """
    files: dict[Hashable, str] = {}
    references: dict[Hashable, Sequence[str]] = {}
    for record in records:
        image_id, file = record["image_id"], record["file_name"]
        other = files.setdefault(image_id, file)
        if other != file:
            raise DataError(
                f"{other} and {file} have the same image id {image_id}; rewards of "
                "MODEL.CAPTION_HEAD.SCST need unique ids"
            )
        if record.get("captions"):
            references[image_id] = record["captions"]
    return references
