"""Fixtures: detectron2's main branch, toy scenes, and a data set of detectron2's own format."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

ARCHIVE = "third_party/detectron2-main-02b5c4e2.tar.gz"
COCO = "compat_coco"


@pytest.fixture(scope="session")
def detectron2_main(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked Python sources of detectron2's main branch."""
    archive = shared_dir / ARCHIVE
    if not archive.is_file():
        pytest.skip("the sources of detectron2's main branch are not available")
    folder = tmp_path_factory.mktemp("main")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    main = next(folder.rglob("tools")).parent
    (main / "detectron2/model_zoo/configs").symlink_to(main / "configs")  # as its setup.py does
    return main


@pytest.fixture(scope="session")
def coco_set(toy_root: Path) -> Iterator[str]:
    """The toy scenes as detectron2's users register a data set; its metadata has been read."""
    toys = toy_root / "toy_scenes"
    register_coco_instances(COCO, {}, str(toys / "annotations/instances_val.json"), toys / "val")
    DatasetCatalog.get(COCO)
    yield COCO
    DatasetCatalog.remove(COCO)
    MetadataCatalog.remove(COCO)
