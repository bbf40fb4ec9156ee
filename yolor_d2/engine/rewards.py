"""What drawn captions earn in self-critical training: CIDEr-D among the captions of their image."""

import logging
import time
from collections.abc import Mapping, Sequence

import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from torch import Tensor, nn

from ..evaluation.caption.cider import CiderD
from ..evaluation.caption.metrics import tokenize
from ..tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class CaptionReward:
    """CIDEr-D by the document frequencies of the training captions.

    Attributes:
        means, milliseconds: of the calls since somebody cleared them; means are over the images
            that have references.

    Args:
        references: captions, by the image's file.
        tokenizer: of the drawn captions.
        end_token: whether the end counts as a word.
    """

    def __init__(
        self, references: Mapping[str, Sequence[str]], *, tokenizer: Tokenizer, end_token: bool
    ) -> None:
        self.tokenizer = tokenizer
        self.means: list[float] = []
        self.milliseconds: list[float] = []
        self.numbers = {name: number for number, name in enumerate(references)}
        words = iter(tokenize(text for texts in references.values() for text in texts))
        self.cider = CiderD(
            {
                self.numbers[name]: [next(words) for _ in texts]
                for name, texts in references.items()
            },
            end_token=end_token,
        )
        logger.info(
            "captions learn from rewards: CIDEr-D among those of %d images, %s the end token",
            len(references),
            "with" if end_token else "without",
        )

    def __call__(self, images: Sequence[str], ids: Tensor) -> Tensor:
        """What captions (N, K, T) earn: (N, K), 0 for images without references."""
        begin = time.perf_counter()
        described = [i for i, name in enumerate(images) if name in self.numbers]
        rewards = torch.zeros(ids.shape[:2], dtype=torch.float64)
        if described:
            texts = [self.tokenizer.decode(text) for text in ids[described].flatten(0, 1).tolist()]
            numbers = [self.numbers[images[i]] for i in described for _ in range(ids.shape[1])]
            scores = self.cider.score(numbers, tokenize(texts))  # (images * K,)
            rewards[described] = torch.from_numpy(scores).view(len(described), -1)
            self.means.append(float(scores.mean()))
        self.milliseconds.append(1000 * (time.perf_counter() - begin))
        return rewards


class RewardNumbers(HookBase):
    """Puts what captions earn among a step's numbers: caption_reward, and time/reward in ms."""

    def __init__(self, reward: CaptionReward) -> None:
        self.reward = reward

    def after_step(self) -> None:
        means, milliseconds = self.reward.means, self.reward.milliseconds
        if means:
            self.trainer.storage.put_scalars(
                caption_reward=sum(means) / len(means), **{"time/reward": sum(milliseconds)}
            )
        means.clear()
        milliseconds.clear()


def give_reward(model: nn.Module, names: Sequence[str], tokenizer: Tokenizer | None) -> None:
    """Let a model's captions learn from rewards, if they are to.

    Args:
        model: before it is wrapped.
        names: of the training sets.
        tokenizer: of the captions.
    """
    head = getattr(model, "caption_head", None)
    how = getattr(head, "self_critical", None)
    if head is None or how is None or tokenizer is None:
        return
    records = (record for name in names for record in DatasetCatalog.get(name))
    references = {r["file_name"]: r["captions"] for r in records if r.get("captions")}
    head.reward = CaptionReward(references, tokenizer=tokenizer, end_token=how.end_token)


def reward_of(model: nn.Module) -> CaptionReward | None:
    """What a model's captions learn from, also of a wrapped one."""
    rewards = (getattr(module, "reward", None) for module in model.modules())
    return next((reward for reward in rewards if isinstance(reward, CaptionReward)), None)
