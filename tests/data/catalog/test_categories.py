"""The category tables against COCO files, detectron2 metadata and the merge list by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from yolor_d2.data.catalog.categories import (
    COCO_LEAVES,
    COCO_PANOPTIC,
    COCO_STUFF,
    COCO_THINGS,
    IGNORE_LABEL,
    LEAF_TO_PANOPTIC,
    coco_id_to_leaf_table,
    stuffthing_to_leaf_table,
)

DROPPED_IDS = {104, 105, 123, 126, 132, 142, 143, 160, 164, 167, 179, 182}
PANOPTIC_NAME_OF_LEAF = {
    "person": "person",
    "toothbrush": "toothbrush",
    "banner": "banner",
    "tree": "tree-merged",
    "branch": "tree-merged",
    "cage": "fence-merged",
    "ceiling-tile": "ceiling-merged",
    "clouds": "sky-other-merged",
    "fog": "sky-other-merged",
    "cupboard": "cabinet-merged",
    "desk-stuff": "table-merged",
    "floor-stone": "pavement-merged",
    "floor-wood": "floor-wood",
    "floor-tile": "floor-other-merged",
    "hill": "mountain-merged",
    "straw": "grass-merged",
    "mud": "dirt-merged",
    "napkin": "paper-merged",
    "salad": "food-other-merged",
    "skyscraper": "building-other-merged",
    "house": "house",
    "stone": "rock-merged",
    "wall-panel": "wall-other-merged",
    "wall-brick": "wall-brick",
    "mat": "rug-merged",
    "rug": "rug-merged",
    "water-other": "water-other",
    "window-other": "window-other",
}


def test_counts():
    tables = (COCO_THINGS, COCO_STUFF, COCO_LEAVES, COCO_PANOPTIC)
    assert [len(table) for table in tables] == [80, 91, 171, 133]
    for table in tables:
        assert len(table.names) == len(table.ids) == len(table.colors)
    assert sum(COCO_PANOPTIC.is_thing) == 80
    assert len(LEAF_TO_PANOPTIC) == 171


@pytest.mark.parametrize("table", [COCO_THINGS, COCO_STUFF, COCO_LEAVES, COCO_PANOPTIC])
def test_entries_are_unique(table):
    for column in (table.names, table.ids, table.colors):
        assert len(set(column)) == len(table)
    assert list(table.ids) == sorted(table.ids)
    assert [table.id_to_index[category_id] for category_id in table.ids] == list(range(len(table)))
    assert all(0 <= value <= 255 for color in table.colors for value in color)


def test_things_equal_detectron2s_metadata():
    metadata = MetadataCatalog.get("coco_2017_val")
    assert list(COCO_THINGS.names) == metadata.thing_classes
    assert COCO_THINGS.id_to_index == metadata.thing_dataset_id_to_contiguous_id
    assert COCO_THINGS.ids[0] == 1
    assert COCO_THINGS.ids[-1] == 90


def test_stuff_equals_the_real_list(shared_dir: Path) -> None:
    lines = (shared_dir / "data/coco_stuff_categories.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert rows.pop() == ["183", "other"]
    assert [[str(i), name] for i, name in enumerate(COCO_STUFF.names, start=92)] == rows


def test_panoptic_equals_the_real_list(shared_dir: Path) -> None:
    path = shared_dir / "data/coco-panoptic-sample/panoptic_coco_categories.json"
    for index, category in enumerate(json.loads(path.read_text())):
        assert COCO_PANOPTIC.ids[index] == category["id"]
        assert COCO_PANOPTIC.names[index] == category["name"]
        assert COCO_PANOPTIC.colors[index] == tuple(category["color"])
        assert COCO_PANOPTIC.is_thing[index] == bool(category["isthing"])


def test_leaf_colors_are_the_panoptic_colors():
    for leaf, category_id in enumerate(COCO_LEAVES.ids):
        if category_id in COCO_PANOPTIC.id_to_index:
            panoptic = COCO_PANOPTIC.id_to_index[category_id]
            assert COCO_LEAVES.colors[leaf] == COCO_PANOPTIC.colors[panoptic]


def test_leaf_to_panoptic():
    assert LEAF_TO_PANOPTIC[:80] == tuple(range(80))
    dropped = {COCO_LEAVES.ids[leaf] for leaf, index in enumerate(LEAF_TO_PANOPTIC) if index < 0}
    assert dropped == DROPPED_IDS
    assert set(LEAF_TO_PANOPTIC) == {-1, *range(133)}
    for leaf_name, panoptic_name in PANOPTIC_NAME_OF_LEAF.items():
        index = LEAF_TO_PANOPTIC[COCO_LEAVES.names.index(leaf_name)]
        assert COCO_PANOPTIC.names[index] == panoptic_name


def test_merged_classes_have_their_leaves():
    leaves_of = {index: [] for index in range(133)}
    for leaf, index in enumerate(LEAF_TO_PANOPTIC):
        leaves_of.get(index, []).append(COCO_LEAVES.names[leaf])
    for index, names in leaves_of.items():
        if COCO_PANOPTIC.names[index].endswith("-merged"):
            stem = COCO_PANOPTIC.names[index].removesuffix("-merged")
            assert len(names) > 1
            assert any(name.removesuffix("-stuff").startswith(stem) for name in names)
        else:
            assert len(names) == 1


@pytest.mark.parametrize(
    ("coco_id", "leaf"),
    [(1, 0), (11, 10), (13, 11), (90, 79), (92, 80), (182, 170), (183, 255), (12, 255), (91, 255)],
)
def test_lookup_tables(coco_id, leaf):
    assert coco_id_to_leaf_table()[coco_id] == leaf
    assert stuffthing_to_leaf_table()[coco_id - 1] == leaf


def test_lookup_tables_reach_each_leaf_once():
    for table in (coco_id_to_leaf_table(), stuffthing_to_leaf_table()):
        assert table.dtype == np.uint8
        assert table.shape == (256,)
        assert table[255] == IGNORE_LABEL
        assert sorted(table[table != IGNORE_LABEL]) == list(range(171))
    assert coco_id_to_leaf_table()[0] == IGNORE_LABEL
