"""COCO/yolor_elan_pan.yaml as a LazyConfig (no captions)."""

from .yolor_elan_mtl import (  # noqa: F401
    data,
    evaluators,
    init,
    model,
    optimizer,
    run,
    schedule,
    test_mapper,
    tokenizer,
    train_mapper,
    tta,
)

model.caption_head = None
train_mapper.tasks = test_mapper.tasks = ["detection", "mask", "semantic"]
evaluators.tasks = ["detection", "mask", "semantic", "panoptic"]
