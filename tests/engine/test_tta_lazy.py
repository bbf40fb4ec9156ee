"""Test-time augmentation of a LazyConfig."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.data.coco_files import Album, restored_catalogs
from tests.engine.test_lazy import arguments, changes
from yolor_d2.engine import lazy
from yolor_d2.engine.parts import RunParts
from yolor_d2.engine.starting_point import StartingPoint
from yolor_d2.modeling.test_time_augmentation import TestTimeAugmentation


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Album]:
    """A small data set that is registered during the test."""
    with restored_catalogs():
        yield Album(tmp_path)


VIEWS = ("tta.enabled=True", "tta.sizes=[64,96]")


def parts_of(folder: Path, *more: str) -> RunParts:
    options = ("evaluators.tasks=[detection,mask]", "model.detection_head.num_classes=3", *more)
    args = arguments(("album", "album"), folder, "pan", *options)
    return lazy.read_lazy(args).parts(StartingPoint())


@pytest.mark.parametrize(
    ("more", "sides"),
    [
        ((), [64]),
        (VIEWS, [64, 64, 96, 96]),  # the plain image is one of the views
        ((*VIEWS, "tta.flip=False"), [64, 96]),
        (("tta.enabled=True",), [64, 64]),
    ],
)
def test_each_view_is_predicted(
    album: Album, tmp_path: Path, more: tuple[str, ...], sides: list[int]
) -> None:
    album.register("album", "instances")
    parts = parts_of(tmp_path / "out", *more)
    model = parts.model().eval()
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))

    results = parts.evaluate(model)

    assert results.keys() == {"bbox", "segm"}
    assert [images.shape[3] for images in seen] == sides
    if "tta.flip=False" not in more and more:
        assert torch.equal(seen[1][:, :, :48], seen[0][:, :, :48].flip(3))  # 64 x 48, padded below


def test_tta_uses_thresholds_of_the_head(
    album: Album, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TTA uses the thresholds of the detection head."""
    album.register("album", "instances")
    examined: list[TestTimeAugmentation] = []
    monkeypatch.setattr(lazy, "evaluate_datasets", lambda model, *_, **__: examined.append(model))
    head = [
        f"model.detection_head.suppression.{setting}"
        for setting in ("nms_thresh=0.4", "detections_per_image=7")
    ]
    parts = parts_of(tmp_path / "out", *VIEWS, *head)

    parts.evaluate(parts.model())

    (augmented,) = examined
    assert augmented.views == [(64, False), (64, True), (96, False), (96, True)]
    assert (augmented.nms_threshold, augmented.max_detections) == (0.4, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.detection_head=null", "the model has no detection_head"),
        ("tta.sizes=640", r"tta\.sizes must be a list: tta\.sizes=\[640\]"),
        ("tta.size=[640]", "tta.size is not a name"),
    ],
)
def test_tta_errors_are_raised_before_the_run(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts_of(tmp_path / "out", "tta.enabled=True", override)


def test_tta_can_change_when_resumed() -> None:
    assert changes(*VIEWS) == []
