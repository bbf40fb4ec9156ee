"""Self-critical training with CIDEr-D rewards."""

import json
from pathlib import Path

import pytest
import torch

from yolor_d2.engine.rewards import CaptionReward
from yolor_d2.engine.trainer import Trainer
from yolor_d2.evaluation.caption.metrics import score
from yolor_d2.tokenizer import Tokenizer

from .conftest import Configure

REFERENCES = {
    "a.jpg": ["A red ball is on the grass.", "There is a red ball!"],
    "b.jpg": ["Two blue stars in the sky.", "Blue stars up in the sky, two of them."],
}
SCST = ("MODEL.CAPTION_HEAD.SCST.SAMPLES", 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([t for texts in REFERENCES.values() for t in texts], vocab_size=80)


def ids_of(tokenizer: Tokenizer, *texts: str) -> torch.Tensor:
    rows = [torch.as_tensor(tokenizer.encode(text)) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)


def test_reward_equals_cider(tokenizer: Tokenizer) -> None:
    """It equals CIDEr of an evaluation in which the evaluated set is the whole corpus."""
    said = ["a red ball on the grass", "two blue stars"]
    reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=False)
    found = reward(["a.jpg", "b.jpg"], ids_of(tokenizer, *said)[:, None])
    references = dict(enumerate(REFERENCES.values()))
    expected = score(references, dict(enumerate(said)))["CIDEr"]
    assert found.mean().item() == pytest.approx(expected, rel=1e-9)


def test_missing_end_lowers_reward(tokenizer: Tokenizer) -> None:
    texts = ("there is a red ball", "there is a")
    lost = []
    for end_token in (False, True):
        reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=end_token)
        whole, broken = reward(["a.jpg"], ids_of(tokenizer, *texts)[None])[0].tolist()
        lost.append(broken / whole)
    assert lost[1] < lost[0]


def test_reward_of_unknown_images_is_zero(tokenizer: Tokenizer) -> None:
    reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=True)
    ids = ids_of(tokenizer, "a red ball", "blue stars")
    found = reward(["x.jpg", "a.jpg"], torch.stack([ids, ids]))
    assert not found[0].any()
    assert found[1, 0] > found[1, 1]
    # They are not part of the mean.
    assert reward.means == [pytest.approx(found[1].mean().item())]
    reward(["x.jpg"], ids[None])
    assert len(reward.means) == 1


def test_rewards_are_logged(configure: Configure) -> None:
    cfg = configure("run", *SCST, "LOG.PERIOD", 1, "SOLVER.MAX_ITER", 2, "TEST.LOSS_PERIOD", 2)
    trainer = Trainer(cfg)
    trainer.train()
    text = (Path(cfg.OUTPUT_DIR) / "training.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    steps = [row for row in rows if "total_loss" in row]
    assert len(steps) == 2
    assert all("caption_reward" in row and row["time/reward"] > 0 for row in steps)
    # Validation measures the cross-entropy of true captions.
    assert trainer.storage.latest()["validation/loss_caption"][0] > 1


def test_reward_takes_a_small_part_of_a_step(configure: Configure) -> None:
    cfg = configure("run", "MODEL.CAPTION_HEAD.SCST.SAMPLES", 5, "SOLVER.MAX_ITER", 8)
    trainer = Trainer(cfg)
    trainer.train()
    reward, step = (
        trainer.storage.history(f"time/{name}").median(6) for name in ("reward", "step")
    )
    assert reward < 0.05 * step
