"""Published names and our names."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from yolor_d2.checkpoint.published import NETWORKS, convert_state_dict
from yolor_d2.model_zoo import get_config
from yolor_d2.modeling.backbone import PAN

from ...modeling.golden import manifest

DFL = "model.105.dfl.conv.weight"


def tiny_state(source: str = "yolov7-af") -> dict[str, Tensor]:
    """Published names with small tensors."""
    state = {name: torch.rand(3, 2, 1, 1) for name in NETWORKS[source].names}
    return state | {DFL: torch.arange(16.0).view(1, 16, 1, 1)}


@pytest.mark.parametrize("source", NETWORKS)
def test_names_match_the_manifest(shared_dir: Path, source: str) -> None:
    names = NETWORKS[source].names

    assert names.keys() == manifest(shared_dir, source).keys()
    ours = [name for name in names.values() if name is not None]
    assert len(set(ours)) == len(ours) == len(names) - 1
    assert names[DFL] is None


@pytest.mark.parametrize("source", NETWORKS)
def test_result_is_a_state_dict_of_our_network(shared_dir: Path, source: str) -> None:
    """Names and shapes; golden tests compare values."""
    cfg = get_config(NETWORKS[source].config)
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 173
    with torch.device("meta"):
        model = build_model(cfg)
    entries = manifest(shared_dir, source).items()
    published = {name: torch.zeros(entry["shape"]) for name, entry in entries}
    published[DFL] = torch.arange(16.0).view(1, 16, 1, 1)

    converted = convert_state_dict(published, source)

    expected = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("panoptic.")  # tables of the data set
    }
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == expected
    model.to_empty(device="cpu").load_state_dict(converted)  # strict


def test_trunk_is_the_backbone(shared_dir: Path) -> None:
    entries = manifest(shared_dir, "yolov7-af").items()
    names = NETWORKS["yolov7-af"].names
    with torch.device("meta"):
        state = PAN().state_dict()

    shapes = {names[name]: tuple(entry["shape"]) for name, entry in entries}

    assert {f"backbone.{name}": tuple(tensor.shape) for name, tensor in state.items()} == {
        name: shape for name, shape in shapes.items() if str(name).startswith("backbone.")
    }


def test_tensors_are_only_renamed() -> None:
    state = tiny_state()
    state["model.0.bn.num_batches_tracked"] = torch.tensor(7)

    converted = convert_state_dict(state, "yolov7-af")

    assert converted["backbone.bottom_up.stem.0.conv.weight"] is state["model.0.conv.weight"]
    assert converted["backbone.spp.shortcut.norm.bias"] is state["model.51.cv2.bn.bias"]
    assert (
        converted["detection_head.box_towers.p4.1.conv.weight"]
        is (state["model.105.cv2.1.1.conv.weight"])
    )
    assert converted["detection_head.class_predictors.p5.bias"] is state["model.105.cv3.2.2.bias"]
    assert converted["backbone.bottom_up.stem.0.norm.num_batches_tracked"] == 7


def test_implicit_vectors_are_neutral() -> None:
    converted = convert_state_dict(tiny_state("yolov7-af-pan"), "yolov7-af-pan")

    added = {name: t for name, t in converted.items() if name.endswith("implicit_add")}
    multiplied = {name: t for name, t in converted.items() if name.endswith("implicit_mul")}
    assert len(added) == len(multiplied) == 3 * 3 + 1
    for vector in added.values():
        torch.testing.assert_close(vector, torch.zeros(1, 2, 1, 1))
    for vector in multiplied.values():
        torch.testing.assert_close(vector, torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in tiny_state().items()}
    state["model.0.bn.num_batches_tracked"] = torch.tensor(3)

    converted = convert_state_dict(state, "yolov7-af")

    floats = [t for name, t in converted.items() if "num_batches_tracked" not in name]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert converted["backbone.bottom_up.stem.0.norm.num_batches_tracked"].dtype is torch.int64


def test_counters_can_be_missing() -> None:
    state = {n: t for n, t in tiny_state().items() if not n.endswith("num_batches_tracked")}

    converted = convert_state_dict(state, "yolov7-af")

    assert not any(name.endswith("num_batches_tracked") for name in converted)


def test_prefix_of_parallel_training_is_removed() -> None:
    state = tiny_state()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}

    assert convert_state_dict(wrapped, "yolov7-af").keys() == (
        convert_state_dict(state, "yolov7-af").keys()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model.7.conv.bias": torch.zeros(1)},
            r"not a yolov7-af: unexpected model\.7\.conv\.bias$",
        ),
        ({"model.7.conv.weight": None}, r"not a yolov7-af: missing model\.7\.conv\.weight$"),
        ({DFL: None}, rf"missing {DFL}$"),
        ({"module.x": torch.zeros(1)}, r"unexpected module\.x$"),
        ({DFL: torch.ones(1, 16, 1, 1)}, r"dfl\.conv\.weight is not 0, 1, \.\.\., 15"),
        ({DFL: torch.arange(8.0).view(1, 8, 1, 1)}, r"dfl\.conv\.weight is not 0, 1, \.\.\., 15"),
    ],
)
def test_wrong_keys_are_refused_by_name(change: dict[str, Tensor | None], message: str) -> None:
    state = {n: t for n, t in (tiny_state() | change).items() if t is not None}

    with pytest.raises(ValueError, match=message):
        convert_state_dict(state, "yolov7-af")


def test_first_of_many_wrong_keys_are_listed() -> None:
    with pytest.raises(ValueError, match=r"unexpected model\.105\.cv4\..* and 60 more$"):
        convert_state_dict(tiny_state("yolov7-af-pan"), "yolov7-af")
    with pytest.raises(ValueError, match=r"missing model\.0\.bn\.bias, .* and \d+ more"):
        convert_state_dict({}, "yolov7-af")


def test_unknown_source_lists_known_ones() -> None:
    with pytest.raises(
        ValueError, match="unknown source gelan-c; known are yolov7-af, yolov7-af-seg, "
    ):
        convert_state_dict({}, "gelan-c")
