"""Self-critical training: rewards, and short runs that use them."""

import json
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from yolor_d2.engine.rewards import CaptionReward, build_reward, references_by_image
from yolor_d2.engine.trainer import Trainer
from yolor_d2.evaluation.caption.metrics import score
from yolor_d2.modeling import deploy
from yolor_d2.tokenizer import Tokenizer

from ..small_runs import Configure

REFERENCES = {
    "a": ["A red ball is on the grass.", "There is a red ball!"],
    2: ["Two blue stars in the sky.", "Blue stars up in the sky, two of them."],
}
SCST = ("MODEL.CAPTION_HEAD.SCST.SAMPLES", 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([t for texts in REFERENCES.values() for t in texts], vocab_size=80)


def encode(tokenizer: Tokenizer, *texts: str) -> torch.Tensor:
    """Padded token ids (texts, T)."""
    rows = [torch.as_tensor(tokenizer.encode(text)) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)


def test_reward_is_cider_of_the_text(tokenizer: Tokenizer) -> None:
    """It equals that of the evaluation, in which the evaluated set is the corpus."""
    texts = ["a red ball on the grass", "two blue stars"]
    reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=False)
    found = reward(["a", 2], encode(tokenizer, *texts)[:, None])
    references = dict(enumerate(REFERENCES.values()))
    expected = score(references, dict(enumerate(texts)))["CIDEr"]
    assert found.mean().item() == pytest.approx(expected, rel=1e-9)


def test_end_token_lowers_the_reward_of_broken_ends(tokenizer: Tokenizer) -> None:
    texts = ("there is a red ball", "there is a")
    ratios = []
    for end_token in (False, True):
        reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=end_token)
        whole, broken = reward(["a"], encode(tokenizer, *texts)[None])[0].tolist()
        ratios.append(broken / whole)
    assert ratios[1] < ratios[0]


def test_images_without_references_have_reward_zero(tokenizer: Tokenizer) -> None:
    reward = CaptionReward(REFERENCES, tokenizer=tokenizer, end_token=True)
    ids = encode(tokenizer, "a red ball", "blue stars")
    found = reward(["x", "a"], torch.stack([ids, ids]))
    assert not found[0].any()
    assert found[1, 0] > found[1, 1]
    # They are not part of the logged mean.
    assert reward.means == [pytest.approx(found[1].mean().item())]
    reward(["x"], ids[None])
    assert len(reward.means) == 1


def test_references_are_keyed_by_image_id() -> None:
    first = {"file_name": "a.jpg", "image_id": 7, "captions": ["a ball"]}
    second = {"file_name": "b.jpg", "image_id": "7", "captions": ["a star"]}
    bare = {"file_name": "c.jpg", "image_id": 8}
    assert references_by_image([first, second, bare, first]) == {7: ["a ball"], "7": ["a star"]}


@pytest.mark.parametrize("captions", [["a star"], []])
def test_image_id_of_two_files_is_refused(captions: list[str]) -> None:
    records = [
        {"file_name": "a.jpg", "image_id": 7, "captions": ["a ball"]},
        {"file_name": "b.jpg", "image_id": 7, "captions": captions},
    ]
    with pytest.raises(ValueError, match=r"^a\.jpg and b\.jpg have the same image id 7; .*$"):
        references_by_image(records)


def test_reward_needs_a_self_critical_head_and_a_tokenizer(configure: Configure) -> None:
    cfg = configure("run")
    assert build_reward(Trainer.build_model(cfg), cfg.DATASETS.TRAIN, None) is None
    cfg = configure("run", *SCST)
    with pytest.raises(ValueError, match=r"SCST\.SAMPLES is not 0, but there is no tokenizer"):
        build_reward(Trainer.build_model(cfg), cfg.DATASETS.TRAIN, None)


def test_model_does_not_hold_the_reward(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of the model, as those of `deploy`, do not copy the captions of the training set."""

    def refuse(self: CaptionReward, memo: dict) -> NoReturn:
        raise AssertionError("the reward is copied")

    monkeypatch.setattr(CaptionReward, "__deepcopy__", refuse, raising=False)
    trainer = Trainer(configure("run", *SCST))
    assert trainer.reward is not None
    deploy(trainer.model)


def test_reward_is_logged(configure: Configure) -> None:
    cfg = configure("run", *SCST, "LOG.PERIOD", 1, "SOLVER.MAX_ITER", 2, "TEST.LOSS_PERIOD", 2)
    trainer = Trainer(cfg)
    trainer.train()
    text = (Path(cfg.OUTPUT_DIR) / "training.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    steps = [row for row in rows if "total_loss" in row]
    assert len(steps) == 2
    assert all("caption_reward" in row and row["time/reward"] > 0 for row in steps)
    # The validation loss is cross-entropy.
    assert trainer.storage.latest()["validation/loss_caption"][0] > 1


def test_reward_takes_a_small_part_of_a_step(configure: Configure) -> None:
    cfg = configure("run", "MODEL.CAPTION_HEAD.SCST.SAMPLES", 5, "SOLVER.MAX_ITER", 8)
    trainer = Trainer(cfg)
    trainer.train()
    reward, step = (
        trainer.storage.history(f"time/{name}").median(6) for name in ("reward", "step")
    )
    assert reward < 0.05 * step
