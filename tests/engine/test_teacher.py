"""A teacher: losses against its predictions, and runs with one."""

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from yolor_d2.checkpoint.saving import load_checkpoint, sidecar_path
from yolor_d2.data import register_images
from yolor_d2.engine.task_balance import TaskBalance
from yolor_d2.engine.teacher import Teacher
from yolor_d2.engine.trainer import Trainer
from yolor_d2.errors import CheckpointError, ConfigError, DataError, OutputError
from yolor_d2.modeling import YOLOR
from yolor_d2.tasks import TASKS

from ..inference.test_published import published_state
from ..modeling.factory import random_batch, tiny_model
from ..small_runs import Configure, small_config
from .test_lazy import run_lazy
from .test_resume import assert_equal, run

WEIGHTS, THRESHOLD = "SOLVER.TEACHER.WEIGHTS", "SOLVER.TEACHER.SCORE_THRESH"
ONE_STEP = ("SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0)
BOXES = ("MODEL.YOLOR.TASKS", ["detection"])
NAMES = {"cls", "box", "dfl", "mask", "sem", "caption"}  # of the losses


def teacher_of(model: YOLOR, *tasks: str) -> Teacher:
    """A teacher that is sure of all points, although it is not trained."""
    return Teacher(model, tasks or TASKS, threshold=0.0, source={})


def taught_losses(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("loss_").removesuffix("_teacher"): loss
        for name, loss in losses.items()
        if name.endswith("_teacher")
    }


@pytest.fixture(scope="module")
def teacher_file(toy_sets: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of all tasks and the size of the students."""
    folder = tmp_path_factory.mktemp("teacher")
    run(small_config(toy_sets, folder, *ONE_STEP))
    return folder / "model_final.pth"


def test_losses_are_zero_if_both_networks_are_equal() -> None:
    model = tiny_model().eval()
    losses = taught_losses(model.training_losses(random_batch(), None, teacher_of(model)))
    assert losses.keys() == NAMES
    for loss in losses.values():
        torch.testing.assert_close(loss, torch.zeros(()), atol=2e-5, rtol=0)


def test_gradients_reach_the_network_only() -> None:
    """The networks differ in width and in the number of prototypes."""
    model = tiny_model()
    wide = ("MODEL.YOLOR_ELAN.WIDTH", 0.25, "MODEL.MASK_HEAD.NUM_PROTOTYPES", 16)
    teacher = teacher_of(tiny_model(TASKS, *wide, seed=1))
    before = copy.deepcopy(teacher.model.state_dict())
    losses = taught_losses(model(random_batch(), teacher=teacher))
    assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None for p in teacher.model.parameters())
    assert_equal(teacher.model.state_dict(), before)


def test_images_without_labels_train() -> None:
    batch = [{"image": s["image"], "weak_image": s["weak_image"]} for s in random_batch()]
    losses = tiny_model()(batch, teacher=teacher_of(tiny_model(seed=1)))
    taught = taught_losses(losses)
    assert {name for name, loss in taught.items() if loss > 0} == NAMES - {"caption"}
    own = [loss for name, loss in losses.items() if not name.endswith("_teacher")]
    assert all(loss == 0 for loss in own)


def test_boxes_are_taught_where_the_teacher_is_sure() -> None:
    model, other = tiny_model(("detection",)), tiny_model(("detection",), seed=1)
    unsure = Teacher(other, ["detection"], threshold=0.99, source={})
    losses = taught_losses(model(random_batch(), teacher=unsure))
    assert losses["box"] == losses["dfl"] == 0
    assert losses["cls"] > 0


def test_channels_of_the_teacher_can_have_another_order() -> None:
    batch = random_batch()
    model, other = tiny_model(("semantic",)), tiny_model(("semantic",), seed=1)
    plain = model.eval().training_losses(batch, None, teacher_of(other, "semantic"))
    with torch.no_grad():
        stem = next(m for m in other.modules() if isinstance(m, torch.nn.Conv2d))
        stem.weight.copy_(stem.weight.flip(1))
    swapped = Teacher(other, ["semantic"], threshold=0.0, source={}, swaps_channels=True)
    found = model.training_losses(batch, None, swapped)
    torch.testing.assert_close(found["loss_sem_teacher"], plain["loss_sem_teacher"])


def test_gradients_of_the_teacher_are_part_of_the_shares() -> None:
    """SOLVER.GRADIENT_SHARES measures all gradients that enter the shared maps."""
    model = tiny_model()
    balance = TaskBalance(model, [[task, 1.0] for task in TASKS], key="")
    batch = [{"image": s["image"], "weak_image": s["weak_image"]} for s in random_batch()]
    losses = model(batch, teacher=teacher_of(tiny_model(seed=1)))
    with balance.measuring():
        sum(losses.values()).backward()
    norms = balance.take_norms(model.device, scale=1.0)
    assert {task for task, norm in norms.items() if norm > 0} == {*TASKS} - {"caption"}


def test_one_to_one_networks_teach_with_all_their_points() -> None:
    """Otherwise a network would learn to predict one point for each object only."""
    head = ("MODEL.DETECTION_HEAD.NAME", "OneToOneHead")
    model = tiny_model(("detection",), *head).eval()
    with torch.no_grad():
        for parameter in model.detection_head.one_to_one.parameters():
            parameter.add_(0.1)
    losses = model.training_losses(random_batch(), None, teacher_of(model, "detection"))
    assert taught_losses(losses)["cls"] < 1e-5


def test_exact_resume(configure: Configure, teacher_file: Path, tmp_path: Path) -> None:
    """Also with the teacher's file in another place; another file is refused."""
    keys = (WEIGHTS, str(teacher_file), THRESHOLD, 0.0, "SOLVER.MAX_ITER", 2)
    straight, losses = run(configure("straight", *keys))
    cfg = configure("parts", *keys, "SOLVER.CHECKPOINT_PERIOD", 1)
    _, first = run(cfg, kill_after=1)
    cfg.SOLVER.TEACHER.WEIGHTS = str(tmp_path / "moved.pth")
    shutil.copy(teacher_file, cfg.SOLVER.TEACHER.WEIGHTS)
    resumed, second = run(cfg, resume=True)
    assert first | second == losses
    states = [each.checkpoint() or {} for each in (straight, resumed)]
    for part in ("iteration", "model", "ema", "optimizer", "random"):
        assert_equal(states[0][part], states[1][part], part)

    for other, message in (
        (str(straight.folder.path / "model_final.pth"), r"moved\.pth \(SHA-256 \w+\) -> model_fi"),
        ("", r'moved\.pth \(SHA-256 \w+\) -> ""'),
    ):
        cfg.SOLVER.TEACHER.WEIGHTS = other
        with pytest.raises(OutputError, match=rf"SOLVER\.TEACHER\.WEIGHTS {message}"):
            Trainer(cfg).resume_or_load()


def test_a_teacher_is_no_part_of_the_network(configure: Configure, teacher_file: Path) -> None:
    """Without weight, its losses change no bit, and no tensor of it is stored."""
    keys = ("SOLVER.MAX_ITER", 2)
    plain, _ = run(configure("plain", *keys))
    silent = ("SOLVER.LOSS_FACTORS", [["loss_*_teacher", 0.0, 0.0]])
    taught, _ = run(configure("taught", *keys, WEIGHTS, str(teacher_file), *silent))
    logged = {n for n in taught.storage.latest() if n.endswith("_teacher")}
    assert logged == {f"loss_{name}_teacher" for name in NAMES}
    files = [load_checkpoint(each.folder.path / "model_final.pth") for each in (plain, taught)]
    for part in ("model", "ema", "optimizer", "random"):
        assert_equal(*(file[part] for file in files), part)
    found = [file.pop("provenance") for file in files]
    assert files[0].keys() == files[1].keys()
    assert found[1].keys() - found[0].keys() == {"teacher"}
    digest = sidecar_path(teacher_file).read_text().split()[0]
    assert found[1]["teacher"] == {"file": "model_final.pth", "sha256": digest}


@pytest.fixture
def photos(toy_root: Path) -> Iterator[Callable[..., str]]:
    """Registers the training images without labels, and returns the name."""

    def add(classes: list[str]) -> str:
        register_images("photos", toy_root / "toy_scenes" / "train", thing_classes=classes)
        return "photos"

    yield add
    DatasetCatalog.remove("photos")
    MetadataCatalog.remove("photos")


def test_data_without_labels(
    configure: Configure, photos: Callable[..., str], toy_sets: tuple[str, str], teacher_file: Path
) -> None:
    """Class names are those of the metadata; without a teacher, such data are refused."""
    cfg = configure("run", *BOXES, *ONE_STEP)
    cfg.DATASETS.TRAIN = (photos(MetadataCatalog.get(toy_sets[0]).thing_classes),)
    with pytest.raises(DataError, match="no image of photos has such targets"):
        run(cfg)
    cfg.SOLVER.TEACHER.WEIGHTS = str(teacher_file)
    trainer, _ = run(cfg)
    losses = {n: v for n, (v, _) in trainer.storage.latest().items() if n.startswith("loss_")}
    assert losses["loss_cls_teacher"] > 0
    assert losses["loss_cls"] == losses["loss_box"] == 0


def test_a_published_network_teaches(
    configure: Configure, photos: Callable[..., str], tmp_path: Path
) -> None:
    torch.save(published_state(), tmp_path / "v9-t.pt")
    cfg = configure("run", *BOXES, *ONE_STEP, WEIGHTS, str(tmp_path / "v9-t.pt"))
    coco = MetadataCatalog.get("coco_2017_val").thing_classes
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (photos(coco),), ()
    losses = run(cfg)[0].storage.latest()
    assert losses["loss_box_teacher"][0] > 0


def test_lazy_configurations(toy_sets: tuple[str, str], teacher_file: Path, tmp_path: Path) -> None:
    teacher = (f"run.teacher_weights={teacher_file}", "run.teacher_tasks=[detection,semantic]")
    run_lazy(toy_sets, tmp_path / "run", "pan", "run.max_iter=1", "run.loss_period=0", *teacher)
    log = (tmp_path / "run" / "training.jsonl").read_text()
    assert "loss_box_teacher" in log
    assert "loss_sem_teacher" in log
    assert "loss_mask_teacher" not in log


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        ("detection", ("REG_MAX", 8), "its number of bins 16, and those of the network 8, differ"),
        ("detection", ("IN_FEATURES", ["p4", "p5"]), "its points with strides [8, 16, 32], and"),
        ("detection", ("NUM_CLASSES", 12), "its number of object classes 10, and those of the ne"),
        ("mask", ("PROTO_FEATURE", "p4"), "its masks have stride 4, those of the network 8"),
        ("semantic", ("NUM_CLASSES", 30), ""),  # more than the data have
        ("caption", ("VOCAB_SIZE", 99), "it has 50 tokens, the network has 99"),
        ("caption", ("MAX_POSITIONS", 256), "its captions have at most 128 tokens, the network"),
        ("caption", ("MAX_POSITIONS", 64), ""),
    ],
)
def test_heads_that_do_not_fit(task: str, keys: tuple[str, Any], message: str) -> None:
    node = {"semantic": "SEM_SEG"}.get(task, task.upper())
    tasks = ("detection", "mask") if task == "mask" else (task,)
    model, teacher = tiny_model(tasks, f"MODEL.{node}_HEAD.{keys[0]}", keys[1]), tiny_model(tasks)
    reason = model.heads[task].misfit(teacher.heads[task])
    assert reason.startswith(message)
    assert bool(reason) == bool(message)
    assert model.heads[task].misfit(teacher.backbone) != ""


def test_other_classes(configure: Configure, teacher_file: Path) -> None:
    cfg = configure("run", *BOXES, WEIGHTS, str(teacher_file))
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes
    content = load_checkpoint(teacher_file)
    content["provenance"]["classes"]["thing_classes"] = [*names[1:], names[0]]
    other = teacher_file.with_name("other_classes.pth")
    torch.save(content, other)
    cfg.SOLVER.TEACHER.WEIGHTS = str(other)
    expected = f"class 0 of its thing_classes is {names[1]}, that of the data {names[0]}"
    with pytest.raises(CheckpointError, match=f"^SOLVER.TEACHER.WEIGHTS .*pth: {expected}; SOLVER"):
        Trainer(cfg)


def test_refusals(configure: Configure, teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^SOLVER\.TEACHER\.WEIGHTS .*no such file"):
        Trainer(configure("run", WEIGHTS, str(tmp_path / "none.pth")))
    with pytest.raises(ConfigError, match=r"SOLVER\.TEACHER\.TASKS has boxes; it may have det"):
        Trainer(configure("run", WEIGHTS, str(teacher_file), "SOLVER.TEACHER.TASKS", ["boxes"]))


def test_what_is_not_taught_is_logged(
    configure: Configure, teacher_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ("MODEL.YOLOR.TASKS", ["detection", "caption"], "TOKENIZER.VOCAB_SIZE", 45)
    trainer = Trainer(configure("run", *keys, WEIGHTS, str(teacher_file)))
    assert "does not teach caption: it has another tokenizer" in caplog.text
    assert trainer.provenance["teacher"]["file"] == "model_final.pth"
    keys = ("MODEL.YOLOR.TASKS", ["caption"], "TOKENIZER.VOCAB_SIZE", 45)
    with pytest.raises(CheckpointError, match="teaches none of the tasks; it has detection, mask"):
        Trainer(configure("run", *keys, WEIGHTS, str(teacher_file)))
