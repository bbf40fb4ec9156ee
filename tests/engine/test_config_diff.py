"""Comparison of the configuration of a saved run with the current one."""

from yolor_d2.engine.config_diff import yacs_changes
from yolor_d2.model_zoo import get_config


def test_keys_that_an_earlier_run_lacks_have_their_defaults() -> None:
    cfg = get_config("toy/yolor_elan_n_toy.yaml")
    earlier = cfg.clone()
    del earlier.MODEL["GELAN"]

    assert yacs_changes(earlier.dump(), cfg.dump()) == []

    cfg.MODEL.GELAN.SIZE = "t"
    assert yacs_changes(earlier.dump(), cfg.dump()) == ["MODEL.GELAN.SIZE c -> t"]
