"""Installing: from anywhere, without detectron2, with either of its versions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import yolor_d2
from yolor_d2 import compat, model_zoo

ROOT = Path(__file__).parents[1]


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder that is not the repository's."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_configs_travel_with_the_package(tmp_path: Path) -> None:
    """An installed copy finds its own configurations from any folder."""
    copy = tmp_path / "repository"
    ignore = shutil.ignore_patterns(".git", ".venv", "output", "build", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=ignore)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--target", target, copy], check=True, cwd=tmp_path)
    shutil.rmtree(copy)
    script = subprocess.run(
        [target / "bin/yolor-d2", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
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
    result = run(code, tmp_path, PYTHONPATH=str(target))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(target / "yolor_d2"), "coco_2017_train_multitask", "RGB"]


def test_every_configuration_is_there_and_loads() -> None:
    names = [str(p.relative_to(ROOT / "configs")) for p in (ROOT / "configs").rglob("*.yaml")]
    assert "Base-YOLOR.yaml" in names
    for name in names:
        assert model_zoo.get_config(name).VERSION == 2
        assert Path(model_zoo.get_config_file(name)).is_file()


def test_an_unknown_configuration_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"no configuration COCO/yolor_mtl\.yaml.*COCO/yolor_elan_mtl"
    ):
        model_zoo.get_config_file("COCO/yolor_mtl.yaml")


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("INPUT:\n  STRONG:\n    SIZES: 3\n")
    with pytest.raises(ValueError, match=r"INPUT\.STRONG\.SIZES"):
        model_zoo.load_config(str(file))
    base = model_zoo.get_config_file("Base-YOLOR.yaml")
    with pytest.raises(ValueError, match=r"MODEL\.YOLO\.TASKS"):
        model_zoo.load_config(base, ["MODEL.YOLO.TASKS", "[]"])


def test_without_detectron2_one_line_says_what_to_do(tmp_path: Path) -> None:
    """As where detectron2 is not installed: nothing finds it."""
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


def test_the_installer_leaves_an_installed_detectron2_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "install_detectron2.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "detectron2 is already installed."


def test_the_root_of_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/sets")
    assert compat.dataset_root() == Path.home() / "sets"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert compat.dataset_root() == Path("datasets")


def test_keys_are_added_to_the_configuration_given_alone() -> None:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    yolor_d2.add_yolor_config(cfg)
    assert cfg.INPUT.WEAK_VIEW_TASKS == ["caption"]
    assert "WEAK_VIEW_TASKS" not in get_cfg().INPUT
    for key, value in get_cfg().items():  # detectron2's own keys keep their values
        if not isinstance(value, type(cfg)):
            assert cfg[key] == value
