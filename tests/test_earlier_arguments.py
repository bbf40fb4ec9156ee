"""LazyConfigs with the earlier flat arguments equal those with groups."""

import copy
from importlib import import_module
from typing import Any

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig, OmegaConf

from yolor_d2.earlier_names import GROUPED, group_arguments, grouped_name
from yolor_d2.engine.lazy import check_overrides, lazy_changes
from yolor_d2.modeling.heads.caption import TransformerCaptionHead, TransformerSizes

HEAD = f"{TransformerCaptionHead.__module__}.{TransformerCaptionHead.__qualname__}"
FLAT = {"vocab_size": 60, "dim": 16, "num_heads": 2, "region_feature": "p3", "num_classes": 5}
GROUPS = {
    "vocabulary": {"vocab_size": 60},
    "sizes": {"dim": 16, "num_heads": 2},
    "regions": {"region_feature": "p3", "num_classes": 5},
}


class OtherHead(TransformerCaptionHead):
    """A user's subclass."""


def config(head: Any = TransformerCaptionHead, **arguments: Any) -> DictConfig:
    shapes = {"p3": ShapeSpec(channels=4, stride=8)}
    node = L(head)(input_shape=shapes, in_features=["p3"], **arguments)
    return OmegaConf.create({"model": {"caption_head": node}}, flags={"allow_objects": True})


def fields(cfg: DictConfig) -> dict[str, Any]:
    """Option groups of the head."""
    head: Any = OmegaConf.to_container(cfg.model.caption_head, resolve=True)
    return {
        name: {key: value for key, value in head[name].items() if key != "_target_"}
        for name in GROUPS
    }


def written(cfg: DictConfig) -> str:
    """The text that a checkpoint stores."""
    return LazyConfig.to_py(cfg)


@pytest.mark.parametrize("target", GROUPED)
def test_groups_are_arguments_with_these_fields(target: str) -> None:
    """The group classes have the fields of the table."""
    for argument, group in GROUPED[target].items():
        module, _, name = group.target.rpartition(".")
        renamed = group.renamed()
        assert set(renamed.values()) <= set(getattr(import_module(module), name)._fields)
        for earlier, now in renamed.items():
            assert grouped_name(target, earlier) == f"{argument}.{now}"


@pytest.mark.parametrize("head", [TransformerCaptionHead, HEAD, OtherHead])
def test_flat_arguments_are_grouped(head: Any) -> None:
    cfg = config(head, **FLAT)
    group_arguments(cfg)
    assert fields(cfg) == GROUPS
    before = copy.deepcopy(cfg)
    group_arguments(cfg)
    assert cfg == before
    model = instantiate(cfg.model.caption_head)
    assert model.text.words.weight.shape == (60, 16)
    assert model.regions.classes.in_features == 5


def test_flat_arguments_replace_grouped_ones() -> None:
    cfg = config(vocab_size=60, dim=16, sizes=L(TransformerSizes)(dim=8, num_heads=2))
    cfg.model.caption_head.regions = None
    cfg.model.caption_head.region_feature = "p3"
    cfg.model.caption_head.num_classes = 5
    group_arguments(cfg)
    assert fields(cfg) == GROUPS


def test_overrides_may_have_either_name() -> None:
    cfg = config(**FLAT | {"dim": 8, "num_heads": 1})
    group_arguments(cfg)
    overrides = ["model.caption_head.dim=16", "model.caption_head.sizes.num_heads=2"]
    check_overrides(cfg, overrides)
    LazyConfig.apply_overrides(cfg, overrides)
    group_arguments(cfg)
    assert fields(cfg) == GROUPS
    with pytest.raises(ValueError, match=r"caption_head\.dims is not a name"):
        check_overrides(cfg, ["model.caption_head.dims=16"])


@pytest.mark.parametrize("source", ["${classes}", "${...classes}"])
def test_interpolations_follow_later_changes(source: str) -> None:
    cfg = config(**FLAT | {"num_classes": source})
    cfg.classes = 4
    group_arguments(cfg)
    cfg.classes = 5
    assert fields(cfg) == GROUPS


def test_changes_of_an_earlier_configuration() -> None:
    """Equal values under earlier and new names are not reported."""
    earlier, now = config(**FLAT), config(**FLAT | {"dim": 32})
    text = written(earlier)
    group_arguments(earlier)
    assert lazy_changes(text, written(earlier)) == []
    group_arguments(now)
    assert lazy_changes(text, written(now)) == ["model.caption_head.sizes.dim 16 -> 32"]
