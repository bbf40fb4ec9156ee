"""The installed package and its configurations."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

import yolor_d2
from yolor_d2 import compat, model_zoo

ROOT = Path(__file__).parents[1]
# Packages and networks that benchmarks compare yolor_d2 with, except its requirements.
PEERS = re.compile(
    r"ultralytics|yolo_?v8|yolo_?(v)?11|(?<!onnxruntime\.)\btransformers\b|mbart", re.IGNORECASE
)


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder outside the repository."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    copy = folder / "repository"
    ignore = shutil.ignore_patterns(".git", ".venv*", "output", "build", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--no-index", "--target", folder / "site", copy]
    subprocess.run(command, check=True, cwd=folder)
    shutil.rmtree(copy)
    return folder / "site"


def test_installed_package_finds_its_configurations(site: Path, tmp_path: Path) -> None:
    script = subprocess.run(
        [site / "bin/yolor-d2", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "  predict " in script.stdout
    code = """
import yolor_d2, yolor_d2.model_zoo as zoo
from pathlib import Path
cfg = zoo.get_config("COCO/yolor_elan_mtl.yaml")
assert (Path(yolor_d2.__file__).parent / "export/runner/runner.py").is_file()
print(Path(yolor_d2.__file__).parent, cfg.DATASETS.TRAIN[0], cfg.INPUT.FORMAT)
"""
    result = run(code, tmp_path, PYTHONPATH=str(site))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(site / "yolor_d2"), "coco_2017_train_multitask", "RGB"]


def test_wheel_contains_no_benchmarks_and_no_peers(site: Path) -> None:
    """Peers have other licenses, and only benchmarks use them."""
    files = [file for file in site.rglob("*") if file.suffix in (".py", ".yaml")]
    names = {str(file.relative_to(site)) for file in files}
    assert {"yolor_d2_cli.py", "yolor_d2/configs/lazy/common.py"} <= names
    assert {name.partition("/")[0] for name in names} == {"yolor_d2", "yolor_d2_cli.py"}
    assert not any("benchmarks" in name.split("/") for name in names)
    assert [str(file) for file in files if PEERS.search(file.read_text("utf-8"))] == []


def test_every_configuration_loads() -> None:
    names = [str(p.relative_to(ROOT / "configs")) for p in (ROOT / "configs").rglob("*.yaml")]
    assert "Base-YOLOR.yaml" in names
    for name in names:
        assert model_zoo.get_config(name).VERSION == 2
        assert Path(model_zoo.get_config_file(name)).is_file()


def test_unknown_configuration_is_refused_with_similar_names() -> None:
    with pytest.raises(
        ValueError, match=r"no configuration COCO/yolor_mtl\.yaml.*COCO/yolor_elan_mtl"
    ):
        model_zoo.get_config_file("COCO/yolor_mtl.yaml")


def test_names_of_the_model_zoo_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as the base of an own file."""
    monkeypatch.chdir(tmp_path)
    expected = model_zoo.get_config("toy/yolor_elan_n_toy.yaml")
    assert model_zoo.load_config("toy/yolor_elan_n_toy.yaml") == expected
    Path("own.yaml").write_text("_BASE_: toy/yolor_elan_n_toy.yaml\nSEED: 7\n")
    Path("next.yaml").write_text("_BASE_: own.yaml\nLOG:\n  PERIOD: 3\n")
    expected.SEED = 7
    assert model_zoo.load_config("own.yaml") == expected
    expected.LOG.PERIOD = 3
    assert model_zoo.load_config("next.yaml") == expected
    Path("wrong.yaml").write_text("_BASE_: toy/yolor_n_toy.yaml\n")
    with pytest.raises(ValueError, match=r"no configuration toy/yolor_n_toy\.yaml; did you mean"):
        model_zoo.load_config("wrong.yaml")
    assert model_zoo.find_config("lazy/yolor_elan_pan.py").endswith("/lazy/yolor_elan_pan.py")


def test_missing_configuration_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"^--config-file is missing; it takes a file or a name"):
        model_zoo.load_config("")


def test_unknown_key_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("INPUT:\n  STRONG:\n    SIZES: 3\n")
    with pytest.raises(ValueError, match=r"INPUT\.STRONG\.SIZES"):
        model_zoo.load_config(str(file))
    base = model_zoo.get_config_file("Base-YOLOR.yaml")
    with pytest.raises(ValueError, match=r"MODEL\.YOLO\.TASKS"):
        model_zoo.load_config(base, ["MODEL.YOLO.TASKS", "[]"])


def test_import_without_detectron2_explains_its_installation(tmp_path: Path) -> None:
    code = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "detectron2":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "detectron2" else real(name, *a)
import yolor_d2
"""
    result = run(code, tmp_path)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: yolor_d2 needs detectron2")
    assert "python install_detectron2.py" in last


def test_installer_keeps_an_installed_detectron2(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "install_detectron2.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "detectron2 is already installed."


def test_dataset_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/sets")
    assert compat.dataset_root() == Path.home() / "sets"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert compat.dataset_root() == Path("datasets")


def test_keys_are_added_only_to_the_given_configuration() -> None:
    cfg = get_cfg()
    yolor_d2.add_yolor_config(cfg)
    assert cfg.INPUT.WEAK_VIEW_TASKS == ["caption"]
    assert "WEAK_VIEW_TASKS" not in get_cfg().INPUT


# Values of detectron2's keys that add_yolor_config changes, with the reason.
CHANGED_DEFAULTS: dict[str, str] = {}
# Values of detectron2's keys that Base-YOLOR.yaml changes, with the reason.
CHANGED_IN_BASE = {
    "MODEL.META_ARCHITECTURE": "the network",
    "MODEL.BACKBONE.NAME": "the network",
    "MODEL.PIXEL_MEAN": "pixels from 0 to 1",
    "MODEL.PIXEL_STD": "pixels from 0 to 1",
    "MODEL.SEM_SEG_HEAD.NAME": "the network",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": "the network",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "that of the data",
    "INPUT.FORMAT": "published weights are of RGB images",
    "DATALOADER.NUM_WORKERS": "the strong view takes more time",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "images without objects are negative examples",
    "DATALOADER.ASPECT_RATIO_GROUPING": "the strong view has one size",
    "SOLVER.WEIGHT_DECAY": "of AdamW",
    "SOLVER.WEIGHT_DECAY_BIAS": "biases do not decay",
    "SOLVER.LR_SCHEDULER_NAME": "the published schedule",
    "SOLVER.CLIP_GRADIENTS.ENABLED": "captions have large gradients at first",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "captions have large gradients at first",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": "captions have large gradients at first",
    "SOLVER.AMP.ENABLED": "speed",
    "TEST.DETECTIONS_PER_IMAGE": "there is no second stage",
    "SEED": "reproducible runs",
}


def test_detectron2s_keys_keep_their_values() -> None:
    """At every depth, except those that are listed above."""
    cfg = get_cfg()
    yolor_d2.add_yolor_config(cfg)
    assert changed_keys(get_cfg(), cfg) == CHANGED_DEFAULTS.keys()
    base = model_zoo.get_config("Base-YOLOR.yaml")
    assert changed_keys(get_cfg(), base) == CHANGED_IN_BASE.keys()


def changed_keys(before: CfgNode, now: CfgNode, prefix: str = "") -> set[str]:
    """Keys of a configuration whose values differ in another one, or which it lacks."""
    changed: set[str] = set()
    for key, value in before.items():
        if isinstance(value, CfgNode):
            changed |= changed_keys(value, now[key], f"{prefix}{key}.")
        elif now.get(key) != value or type(now.get(key)) is not type(value):
            changed.add(prefix + key)
    return changed
