"""Published names and our names."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yolor_d2.checkpoint.published import NETWORKS, convert_state_dict, recognize
from yolor_d2.checkpoint.published.configuration import configuration_of
from yolor_d2.modeling.backbone import PAN

from ...modeling.golden import manifest

DFL = "model.105.dfl.conv.weight"


# Manifests of published networks; gelan-c-det has none.
MANIFESTS = {name: name.replace("v9-", "mit-v9-") for name in NETWORKS if name != "gelan-c-det"}


def tiny_state(source: str = "yolov7-af") -> dict[str, Tensor]:
    """Published names with small tensors."""
    network = NETWORKS[source]
    state = {
        name: torch.arange(16.0) if ours is None else torch.rand(3, 2, 1, 1)
        for name, ours in network.names.items()
    }
    stem, width = network.stem
    return state | {stem: torch.rand(width, 3, 1, 1)}


@pytest.mark.parametrize("source", MANIFESTS)
def test_each_name_of_the_manifest_is_used_once_or_dropped(shared_dir: Path, source: str) -> None:
    network = NETWORKS[source]
    published = manifest(shared_dir, MANIFESTS[source]).keys()
    dropped = {name for name in published if network.reason_to_drop(name)}

    assert network.names.keys() == published - dropped
    assert not network.names.keys() & dropped
    ours = [name for name in network.names.values() if name is not None]
    assert len(set(ours)) == len(ours)
    constants = {name for name, ours in network.names.items() if ours is None}
    assert all("dfl" in name or "anc2vec" in name for name in constants)


@pytest.mark.parametrize("source", MANIFESTS)
def test_weights_are_those_of_our_configuration(shared_dir: Path, source: str) -> None:
    """Names and shapes; golden tests compare values."""
    network = NETWORKS[source]
    entries = manifest(shared_dir, MANIFESTS[source])
    with torch.device("meta"):
        state = {
            ours: torch.zeros(entries[name]["shape"])
            for name, ours in network.names.items()
            if ours is not None
        }
        cfg = configuration_of(network, state)
        cfg.MODEL.DEVICE = "meta"
        model = build_model(cfg)
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("panoptic.")  # tables of the data set
    }
    if source != "yolov7-u6":  # ours has vectors that load as neutral ones
        own = {name: shape for name, shape in own.items() if "implicit" not in name}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == own


def as_published(converted: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The published state dict of our weights, without constants."""
    names = NETWORKS[source].names.items()
    return {name: converted[ours] for name, ours in names if ours is not None}


@pytest.mark.parametrize("source", NETWORKS)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=3, deadline=None)
def test_weights_come_back_as_the_same_bytes(source: str, seed: int) -> None:
    torch.manual_seed(seed)
    state = tiny_state(source)
    back = as_published(convert_state_dict(state, source), source)
    kept = {name for name, ours in NETWORKS[source].names.items() if ours is not None}
    assert back.keys() == kept
    assert all(back[name].numpy().tobytes() == state[name].numpy().tobytes() for name in kept)


@pytest.mark.parametrize("prefix", ["", "module.", "model.model."])
@pytest.mark.parametrize("source", NETWORKS)
def test_recognized_by_names_and_first_width(source: str, prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in tiny_state(source).items()}
    assert recognize(state).name == source


def test_auxiliary_branch_of_the_training_is_dropped() -> None:
    state = tiny_state("v9-c") | {"23.conv.weight": torch.rand(1), "38.x": torch.rand(1)}
    assert recognize(state).name == "v9-c"
    assert convert_state_dict(state, "v9-c").keys() == (
        convert_state_dict(tiny_state("v9-c"), "v9-c").keys()
    )
    assert NETWORKS["v9-c"].reason_to_drop("38.x") == "auxiliary branch of the training"
    assert NETWORKS["v9-c"].reason_to_drop("22.x") is None


def test_averaged_weights_of_lightning_are_preferred() -> None:
    raw, averaged = tiny_state("v9-s"), tiny_state("v9-s")
    both = {f"model.model.{name}": tensor for name, tensor in raw.items()}
    both |= {f"ema.model.{name}": tensor for name, tensor in averaged.items()}
    assert recognize(both).name == "v9-s"
    converted = convert_state_dict(both, "v9-s")
    assert as_published(converted, "v9-s")["1.conv.weight"] is averaged["1.conv.weight"]


def test_unknown_width_lists_the_known_ones() -> None:
    state = tiny_state("v9-t") | {"0.conv.weight": torch.rand(24, 3, 3, 3)}
    message = r"0\.conv\.weight has shape \(24, .*output channels are 16 \(v9-t\), 32 \(v9-s"
    with pytest.raises(ValueError, match=message):
        recognize(state)


def test_nearest_network_is_compared() -> None:
    state = tiny_state("gelan-c-pan")
    state.pop("model.22.uconv.cv2.bias")
    message = (
        r"not a gelan-c-pan: missing model\.22\.uconv\.cv2\.bias \(the nearest of the published "
        r"networks; others are yolov7-af, "
    )
    with pytest.raises(ValueError, match=message):
        recognize(state)


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
