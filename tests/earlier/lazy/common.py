"""What a LazyConfig has besides its `model`: the recipe of COCO/yolor_elan_mtl.yaml.

Any name can be set at the end of the command line: run.max_iter=1000 data.batch_size=16. So can
arguments that are not here, run.accum_steps=4.
"""

from detectron2.config import LazyCall as L
from yolor_d2.data.strong_view import StrongPolicy
from yolor_d2.engine.optimizer import make_optimizer
from yolor_d2.engine.schedule import Schedule

from yolor_d2.data import MultiTaskMapper
from yolor_d2.engine.options import run_options
from yolor_d2.evaluation.build import build_evaluators
from yolor_d2.tasks import TASKS

init = {"seed": 0, "weights": ""}  # weights: a checkpoint to begin with, or to evaluate
tokenizer = {"model": "", "vocab_size": 8000}

data = {
    "train": ["coco_2017_train_multitask"],
    "test": ["coco_2017_val_multitask"],
    "batch_size": 64,  # over all processes
    "test_batch_size": 8,  # of each process
    "num_workers": 8,
    "close_mosaic_iters": 18480,
}
# The run gives them the tokenizer, and the evaluators their data set and folder.
train_mapper = L(MultiTaskMapper)(
    is_train=True,
    tasks=list(TASKS),
    strong=L(StrongPolicy)(size=640),
    weak_size=640,
    num_sem_seg_classes=171,
)
test_mapper = L(MultiTaskMapper)(is_train=False, tasks=list(TASKS), test_size=640)
evaluators = L(build_evaluators)(tasks=[*TASKS, "panoptic"])
# Test-time augmentation: long sides of the views ([]: as the mapper makes them), and mirrored ones.
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
