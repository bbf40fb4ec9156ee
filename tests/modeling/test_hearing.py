"""Captions that hear what the detection head says of each cell."""

import pytest
import torch

from .factory import THINGS, random_batch, tiny_config, tiny_model

HEARING = (
    *("MODEL.CAPTION_HEAD.HEAR_DETECTIONS", True),
    *("MODEL.CAPTION_HEAD.IN_FEATURES", ["p3", "p4", "p5"]),
)
BOTH = ("detection", "caption")


def test_a_token_hears_its_own_cell() -> None:
    model = tiny_model(BOTH, *HEARING).eval()
    features = model.extract(torch.rand(1, 3, 64, 96) * 255, {"p3", "p4", "p5"})
    points = model.detection_head(features)
    expected = points.logits.sigmoid() @ model.caption_head.scores.weight.T
    deaf = model.caption_head(features, None, torch.zeros_like(points.logits)).tokens
    torch.testing.assert_close(model.visual_tokens(features, None).tokens - deaf, expected)


def test_other_maps_are_not_spoken_of() -> None:
    """Tokens of maps without points, here those of c3, are as they would be without any."""
    more = ("MODEL.CAPTION_HEAD.IN_FEATURES", ["p3", "p4", "p5", "c3"])
    model = tiny_model(BOTH, *HEARING, *more).eval()
    features = model.extract(torch.rand(1, 3, 64, 96) * 255, {"p3", "p4", "p5", "c3"})
    count = model.detection_head(features).logits.shape[1]
    hearing = model.visual_tokens(features, None).tokens
    deaf = model.caption_head(features, None, torch.zeros(1, count, THINGS)).tokens
    assert hearing.shape[1] == count + 8 * 12
    assert torch.equal(hearing[:, count:], deaf[:, count:])
    assert not torch.equal(hearing[:, :count], deaf[:, :count])


def test_listening_changes_nothing_about_detection() -> None:
    """No gradient, no statistic, and the losses of boxes are those of a model that is deaf."""
    model = tiny_model(BOTH, *HEARING).train()
    batch = random_batch(weak_size=(64, 64))
    before = {k: v.clone() for k, v in model.detection_head.state_dict().items()}
    only_captions = [{k: v for k, v in s.items() if k != "instances"} for s in batch]

    model(only_captions)["loss_caption"].backward()

    assert all(p.grad is None or not p.grad.any() for p in model.detection_head.parameters())
    assert model.caption_head.scores.weight.grad.any()
    model.detection_head.load_state_dict(before)
    hearing = model(batch)
    once = {k: v.clone() for k, v in model.detection_head.state_dict().items()}
    model.detection_head.load_state_dict(before)
    model.caption_head.scores = None
    deaf = model(batch)
    for name in ("loss_cls", "loss_box", "loss_dfl"):
        torch.testing.assert_close(hearing[name], deaf[name])
    for name, value in model.detection_head.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(once[name], value)


def test_one_view_is_looked_at_once() -> None:
    model = tiny_model(BOTH, *HEARING, "INPUT.WEAK_VIEW_TASKS", ["detection", "caption"]).train()
    calls = []
    model.detection_head.register_forward_hook(lambda *_: calls.append(1))
    batch = [{f"weak_{k}": v for k, v in s.items()} | s for s in random_batch()]
    sum(model(batch).values()).backward()
    assert len(calls) == 1
    assert all(p.grad is not None for p in model.parameters())


def test_results_have_captions() -> None:
    model = tiny_model(BOTH, *HEARING).eval()
    (result,) = model([{"image": random_batch()[0]["image"]}])
    assert result["caption_ids"]


@pytest.mark.parametrize(
    ("tasks", "maps"),
    [(("caption",), ["p3", "p4", "p5"]), (BOTH, ["p5"]), (BOTH, ["p4", "p3", "p5"])],
)
def test_what_cannot_be_heard(tasks: tuple[str, ...], maps: list[str]) -> None:
    cfg = tiny_config(tasks, *HEARING, "MODEL.CAPTION_HEAD.IN_FEATURES", maps)
    with pytest.raises(ValueError, match="HEAR_DETECTIONS needs the task detection"):
        tiny_model(
            tasks, *HEARING, "MODEL.CAPTION_HEAD.IN_FEATURES", cfg.MODEL.CAPTION_HEAD.IN_FEATURES
        )
