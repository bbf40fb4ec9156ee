"""Names that documents of earlier versions promised still import, and are the same objects."""

import subprocess
import sys
from importlib import import_module

import pytest

from yolor_d2.earlier_names import MOVED

DOCUMENTED = """
yolor_d2: Predictor add_yolor_config
yolor_d2.data: MultiTaskMapper build_test_loader build_tokenizer build_train_loader
yolor_d2.data: register_coco_multitask
yolor_d2.data.categories: COCO_THINGS
yolor_d2.data.mapper: MultiTaskMapper
yolor_d2.data.strong_view: StrongPolicy
yolor_d2.engine.arguments: argument_parser
yolor_d2.engine.hooks: BestCheckpoint EarlyStop ValidationLoss
yolor_d2.engine.launch: launch
yolor_d2.engine.main: main
yolor_d2.engine.optimizer: keep_statistics make_optimizer
yolor_d2.engine.options: run_options
yolor_d2.engine.schedule: Schedule
yolor_d2.engine.trainer: Trainer
yolor_d2.evaluation: build_evaluator build_evaluators
yolor_d2.evaluation.build: build_evaluators
yolor_d2.evaluation.caption_metrics: score
yolor_d2.evaluation.cider: CiderD
yolor_d2.evaluation.ptb: tokenize
yolor_d2.model_zoo: get_config load_config
yolor_d2.modeling: PAN YOLOR YOLORELAN deploy to_channels_last
yolor_d2.modeling.assigner: TaskAlignedAssigner
yolor_d2.modeling.backbone: PAN YOLORELAN elan_shapes pan_shapes
yolor_d2.modeling.decoding: Decoding
yolor_d2.modeling.heads: AnchorFreeHead PrototypeMaskHead TransformerCaptionHead UConvHead
yolor_d2.modeling.heads: DETECTION_HEAD_REGISTRY MASK_HEAD_REGISTRY CAPTION_HEAD_REGISTRY
yolor_d2.modeling.heads.caption: TransformerCaptionHead
yolor_d2.modeling.heads.detection: AnchorFreeHead PointPredictions
yolor_d2.modeling.heads.mask: MaskPredictions PrototypeMaskHead
yolor_d2.modeling.heads.registry: CAPTION_HEAD_REGISTRY
yolor_d2.modeling.heads.self_critical: SelfCritical
yolor_d2.modeling.heads.semantic: MultiScaleSemanticHead UConvHead
yolor_d2.modeling.panoptic: PanopticMerger panoptic_tables
yolor_d2.modeling.reduce: over_processes
yolor_d2.modeling.views: view_instances
yolor_d2.tasks: TASKS
yolor_d2.tools.true_results: true_result
yolor_d2.visualization: draw_results
"""


@pytest.mark.parametrize("line", DOCUMENTED.strip().splitlines())
def test_documented_names_import(line: str) -> None:
    module, names = line.split(": ")
    for name in names.split():
        assert getattr(import_module(module), name) is not None


@pytest.mark.parametrize(("earlier", "now"), MOVED.items())
def test_a_moved_module_is_the_same_object(earlier: str, now: str) -> None:
    module = import_module(f"yolor_d2.{now}")
    assert import_module(f"yolor_d2.{earlier}") is module
    assert module.__spec__.name == module.__name__ == f"yolor_d2.{now}"


def test_a_program_runs_under_its_earlier_name() -> None:
    command = [sys.executable, "-m", "yolor_d2.tools.demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--weights" in done.stdout
