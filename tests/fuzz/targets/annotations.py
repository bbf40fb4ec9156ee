"""Labeled data of every format, read as by training, and checked as by yolor-d2 check-data."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from detectron2.data import DatasetCatalog

from yolor_d2.data.formats.registration import NAMES, RegisteredData, register_own_data
from yolor_d2.data.formats.summary import summary
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.data.views.targets import rasterize_all
from yolor_d2.errors import BadFileError
from yolor_d2.tools import check_data

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, OUT, Case, Target
from ..corpus import Files, labeled_data
from ..tree_mutators import dump, mutate_text, mutate_tree

PROGRAMS = ("train", "train", "check")
STRIDE = 4
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">{}]>'.format(
    "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
)


def mutate(rng: Random, index: int, corpus: dict[str, Files]) -> Case:
    """Change one file of labels."""
    name = rng.choice(sorted(corpus))
    files = dict(corpus[name])
    file = rng.choice([f for f in sorted(files) if not f.endswith(".png")])
    if file.endswith(".json"):
        tree, what = _mutate_json(rng, json.loads(files[file]))
        files[file], damage = dump(rng, tree)
        what += f", {damage}"
    elif file.endswith(".yaml") and rng.random() < 0.6:
        tree, what = mutate_tree(rng, yaml.safe_load(files[file]))
        files[file] = _yaml(tree)
    elif file.endswith(".xml") and rng.random() < 0.05:
        files[file], what = f"{BOMB}<annotation>&i;</annotation>".encode(), "entities"
    elif rng.random() < 0.7:
        files[file], what = mutate_text(rng, files[file].decode())
    else:
        files[file], what = mutate_bytes(rng, files[file])
    return Case(files, rng.choice(PROGRAMS), f"{name}, {file}: {what}")


def _yaml(tree: Any) -> bytes:
    try:
        return yaml.safe_dump(tree, allow_unicode=True).encode()
    except (UnicodeEncodeError, yaml.YAMLError):  # half of a character
        return json.dumps(tree).encode()


def _mutate_json(rng: Random, tree: Any) -> tuple[Any, str]:
    """Change a tree, sometimes in the ways in which annotations go wrong."""
    annotations = tree.get("annotations") or [{}]
    chosen = rng.choice(annotations)
    if rng.random() < 0.8 or "segmentation" not in chosen:
        return mutate_tree(rng, tree)
    kind = rng.choice(("polygon", "far polygon", "runs", "text of runs"))
    if kind == "polygon":
        count = rng.choice((0, 1, 2, 3, 5, 6, 7, 1000, 100_000))
        chosen["segmentation"] = [[rng.uniform(-5, 40) for _ in range(count)]]
    elif kind == "far polygon":
        far = rng.choice((1e3, 1e5, 1e7, 1e9, 1e12, 1e300))
        chosen["segmentation"] = [[0, 0, far, 0, far, far * rng.choice((1, -1, 0))]]
    elif kind == "runs":
        count = rng.choice((0, 1, 3, 50_000))
        runs = [rng.choice((0, 1, 768, -1, 2**32 - 1, 2**32, 2**63, 1.5)) for _ in range(count)]
        chosen["segmentation"] = {"size": [24, 32], "counts": runs}
    else:
        count = rng.choice((0, 1, 2, 5, 30, 1000))
        text = "".join(chr(rng.choice((48, 79, 80, 95, 111, 112, 300, 33))) for _ in range(count))
        chosen["segmentation"] = {"size": [24, 32], "counts": text}
    return tree, kind


def run(corpus: dict[str, Files], case: Case) -> int | None:
    """Read the data as one of PROGRAMS."""
    if case.arguments == "check":
        return _check()
    found = register_own_data(GIVEN, truth_folder=Path(OUT))
    summary(found)
    reader = RecordReader(num_sem_seg_classes=254)
    for record in found.data.records():
        reader.start_sample()
        try:
            reader.pixels(record)
            if "sem_seg_file_name" in record:
                reader.labels(record)
        except BadFileError:  # training replaces the image, and lists the file
            continue
        if "annotations" in record:
            check_objects(reader.objects(record), record)
    check_records(found)
    check_truth(found)
    return None


def _check() -> int:
    code = check_data.main([GIVEN, "--workers", "0"])
    assert code in (0, 1, 2), f"exit code {code}"
    return code


def check_objects(objects: Any, record: dict[str, Any]) -> None:
    """Objects are finite, inside their image, and can be drawn."""
    limits = np.array([record["width"], record["height"]] * 2)
    assert np.isfinite(objects.boxes).all(), "a box is not finite"
    assert (objects.boxes >= 0).all(), "a box begins outside the image"
    assert (objects.boxes <= limits).all(), "a box ends outside the image"
    shapes = [objects.outlines(k) for k in range(len(objects.boxes))]
    width, height = (-(-side // STRIDE) * STRIDE for side in (record["width"], record["height"]))
    rasterize_all(shapes, width=width, height=height, stride=STRIDE)


def check_records(found: RegisteredData) -> None:
    """Every record names an image of its size, and classes that exist."""
    things = found.data.things
    for record in found.data.records():
        assert Path(record["file_name"]).is_relative_to(Path(GIVEN).absolute()), "another folder"
        for side in (record["width"], record["height"]):
            assert type(side) is int and side > 0, f"a side of {side!r}"  # noqa: PT018
        number = record["image_id"]
        assert isinstance(number, str) or number == int(number), f"image id {number!r}"
        for annotation in record.get("annotations", ()):
            assert things is not None, "objects without classes"
            assert 0 <= annotation["category_id"] < len(things), "an unknown class"
            assert annotation["iscrowd"] in (0, 1), f"iscrowd {annotation['iscrowd']!r}"
        assert all(isinstance(text, str) and text for text in record.get("captions", ()))
    for table in (things, found.data.sem_seg, found.data.panoptic):
        for name in () if table is None else table.names:
            assert isinstance(name, str), f"a class named {name!r}"


def check_truth(found: RegisteredData) -> None:
    """The files for evaluators are strict JSON with the objects and captions of the records."""
    records = [r for part in NAMES for r in found.data.parts.get(part, ()) if part != "train"]
    counts = {
        "instances": sum(len(r.get("annotations", ())) for r in records),
        "captions": sum(len(r.get("captions", ())) for r in records),
    }
    for kind, count in counts.items():
        written = [
            json.loads(file.read_text(), parse_constant=_refuse)["annotations"]
            for file in Path(OUT).glob(f"*_{kind}.json")
        ]
        assert sum(map(len, written)) == count, f"{count} {kind}, {written}"
        for entry in (entry for entries in written for entry in entries):
            assert math.isfinite(entry.get("area", 0)), "an area is not finite"
    for name in NAMES.values():
        assert name not in DatasetCatalog or DatasetCatalog.get(name), f"{name} is empty"


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


ANNOTATIONS = Target(
    about="labels: COCO, YOLO, VOC, LabelMe, CSV, JSON lines; right: finite, inside, as written",
    prepare=labeled_data,
    mutate=mutate,
    run=run,
)
