"""Registering the data of a configuration once, and data that a network is evaluated on."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from yolor_d2.data.formats import registration
from yolor_d2.data.formats.registration import ensure_registered, register_test_data
from yolor_d2.errors import DataError
from yolor_d2.model_zoo import get_config

from .conftest import Make
from .samples import coco_content, write


def network(*things: str, ids: tuple[int, ...] = (), stuff: tuple[str, ...] = ()) -> Metadata:
    """Metadata with the classes of a network."""
    table = {number: index for index, number in enumerate(ids)}
    metadata = Metadata(thing_classes=list(things), stuff_classes=list(stuff))
    return metadata.set(thing_dataset_id_to_contiguous_id=table)


def test_data_are_registered_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = get_config("Base-YOLOR.yaml")
    ensure_registered(cfg)  # without data
    cfg.DATASETS.DATA, cfg.OUTPUT_DIR = str(make("yolo")), "out"
    readings = []
    register = registration.register_own_data
    monkeypatch.setattr(
        registration,
        "register_own_data",
        lambda *a, **k: readings.append(k["truth_folder"]) or register(*a, **k),
    )
    ensure_registered(cfg, truth=False)
    assert not Path("out").exists()
    for _ in range(2):
        ensure_registered(cfg)
        ensure_registered(cfg, truth=False)
    assert readings == [None, Path("out/data")]
    assert Path("out/data/val_instances.json").is_file()
    cfg.OUTPUT_DIR = "other"
    ensure_registered(cfg)
    cfg.DATASETS.DATA = str(make("voc"))
    ensure_registered(cfg)
    DatasetCatalog.remove("own_train")
    ensure_registered(cfg)
    assert readings[2:] == [Path("other/data")] * 3


def test_objects_have_the_classes_of_the_network(make: Make) -> None:
    """By name: a data set can lack classes, and have others in another order."""
    classes = network("tree", "box", "ball", ids=(7, 30, 4))
    folder = Path("truth")
    sizes = register_test_data(str(make("yolo")), classes, truth_folder=folder)
    assert sizes == {"own_val": 2}
    names = MetadataCatalog.get("own_val").thing_classes
    assert names == ["tree", "box", "ball"]
    found = {
        names[annotation["category_id"]]: int(Path(record["file_name"]).stem) % 2
        for record in DatasetCatalog.get("own_val")
        for annotation in record["annotations"]
    }
    assert found == {"ball": 0, "box": 1}
    assert MetadataCatalog.get("own_val").thing_dataset_id_to_contiguous_id == {7: 0, 30: 1, 4: 2}
    with pytest.raises(DataError, match="objects of the class box; the network's classes are ball"):
        register_test_data("yolo", network("ball"), truth_folder=folder)


@pytest.mark.parametrize(
    ("path", "trained_on", "number"),
    [
        ("coco_json", "", 8),
        ("coco_json", "elsewhere", 8),
        ("coco_json", "coco_json", 2),
        ("coco_json/labels.json", "coco_json", 2),
        ("coco_json", "coco_json/labels.json", 2),
        ("coco_json", "labelme", 8),
    ],
)
def test_data_without_parts(make: Make, path: str, trained_on: str, number: int) -> None:
    """All images, but of the network's own data only those split off for validation."""
    make("coco_json")
    make("labelme")
    sizes = register_test_data(
        path, network("ball", "box"), truth_folder=Path("truth"), trained_on=trained_on
    )
    assert sizes == {"own_val": number}


def test_data_without_other_images(make: Make) -> None:
    """A file of training images alone cannot be used for evaluation."""
    found = registration.register_own_data(str(make("coco_json")))
    used = {Path(record["file_name"]).name for record in found.data.parts["train"]}
    content = coco_content([int(Path(name).stem) for name in used])
    for image in content["images"]:
        image["file_name"] = f"../coco_json/images/{image['file_name']}"
    write(Path("part/part.json"), content)
    with pytest.raises(
        DataError, match=r"part\.json: the network was trained on all of its images"
    ):
        register_test_data(
            "part/part.json",
            network("ball", "box"),
            truth_folder=Path("truth"),
            trained_on="coco_json",
        )


def test_semantic_maps_need_the_same_table(make: Make) -> None:
    root = str(make("semantic_png"))
    good = network(stuff=("background", "ball", "box"))
    assert register_test_data(root, good, truth_folder=Path("truth"))
    with pytest.raises(DataError, match="semantic maps are background, ball, box; those of the"):
        register_test_data(root, network(stuff=("ball", "box")), truth_folder=Path("truth"))
