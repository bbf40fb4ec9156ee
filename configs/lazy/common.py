"""Training recipe of COCO/yolor_elan_mtl.yaml, for LazyConfigs, which add a `model`.

Every name can be overridden on the command line: run.max_iter=1000 data.batch_size=16. Arguments
that are not listed here can be added: run.accum_steps=4.
"""

from detectron2.config import LazyCall as L

from yolor_d2.data import MultiTaskMapper
from yolor_d2.data.views.strong_view import StrongPolicy
from yolor_d2.engine.optim.optimizer import make_optimizer
from yolor_d2.engine.optim.schedule import Schedule
from yolor_d2.engine.options import run_options
from yolor_d2.evaluation.build import build_evaluators
from yolor_d2.tasks import TASKS

init = {"seed": 0, "weights": ""}  # weights: checkpoint to start from or evaluate
tokenizer = {"model": "", "vocab_size": 8000}

data = {
    "train": ["coco_2017_train_multitask"],
    "test": ["coco_2017_val_multitask"],
    "batch_size": 64,  # total of all processes
    "test_batch_size": 8,  # per process
    "num_workers": 8,
    "close_mosaic_iters": 18480,
}
# The run passes the tokenizer to mappers and evaluators, and data set and folder to evaluators.
train_mapper = L(MultiTaskMapper)(
    is_train=True,
    tasks=list(TASKS),
    strong=L(StrongPolicy)(size=640),
    weak_size=640,
    num_sem_seg_classes=171,
)
test_mapper = L(MultiTaskMapper)(is_train=False, tasks=list(TASKS), test_size=640)
evaluators = L(build_evaluators)(tasks=[*TASKS, "panoptic"])
# Test-time augmentation. sizes: long sides in pixels ([]: test_size); flip: add mirrored images.
tta = {"enabled": False, "sizes": [], "flip": True}

run = L(run_options)(
    output_dir="./output",
    max_iter=554400,
    precision="bf16",
    clip_type="norm",
    clip_value=10.0,
    ema_decay=0.9999,
    channels_last=True,
    checkpoint_period=1848,
    eval_period=18480,
    pictures=8,
)
optimizer = L(make_optimizer)(name="AdamW", lr=1e-3, weight_decay=0.05)
schedule = L(Schedule)(name="flat_cosine", total="${..run.max_iter}", final=0.01, warmup_iters=5544)
