"""Every configuration key of yolor_d2, with its default and meaning."""

from detectron2.config import CfgNode

from .evaluation import add_evaluation, add_logging
from .model import add_model
from .training import add_input, add_loading, add_optimizer, add_solver


def add_yolor_config(cfg: CfgNode) -> None:
    """Add yolor_d2's keys to a configuration. detectron2's own keys keep their values."""
    add_model(cfg)
    add_input(cfg)
    add_loading(cfg)
    add_solver(cfg)
    add_optimizer(cfg)
    add_evaluation(cfg)
    add_logging(cfg)
