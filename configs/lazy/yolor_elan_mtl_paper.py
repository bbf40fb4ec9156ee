"""COCO/yolor_elan_mtl_paper.yaml as a LazyConfig."""

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

model.backbone.out_features = ["c5", "p3", "p4", "p5"]
model.caption_head.in_features = ["c5", "p5"]
model.caption_head.vocabulary.vocab_size = 30522
model.caption_head.vocabulary.usable_vocab = 8000
model.caption_head.vocabulary.tied = False
model.caption_head.vocabulary.output_dims = [512, 512]
model.caption_head.sizes.dim = 256
model.caption_head.sizes.decoder_layers = 6
optimizer.lr = 1e-4
