"""Merging instances and a semantic map: by hand, against detectron2, and invariants."""

import json

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch import Tensor

from yolor_d2.data.catalog.categories import COCO_LEAVES, COCO_PANOPTIC
from yolor_d2.modeling.panoptic import PanopticMerger, Segment, merge, panoptic_tables
from yolor_d2.structures import RLEMasks, SemanticMap

SCENE = ["sky", "grass", "car", "dog"]  # semantic classes; the last two are things
THINGS = torch.tensor([2, 3])  # panoptic classes are the semantic ones
STUFF = torch.tensor([0, 1, -1, -1])


def make_instances(masks: Tensor, scores: list[float], classes: list[int]) -> Instances:
    instances = Instances((masks.shape[1], masks.shape[2]))
    instances.pred_masks = masks
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def merge_scene(
    instances: Instances, labels: Tensor, *, overlap: float = 0.5, area: int = 2, score: float = 0.3
) -> tuple[Tensor, list[Segment]]:
    return merge(
        instances,
        labels,
        thing_to_panoptic=THINGS,
        leaf_to_panoptic=STUFF,
        overlap_threshold=overlap,
        stuff_area_limit=area,
        score_threshold=score,
    )


def test_a_scene_by_hand() -> None:
    labels = torch.tensor([[0, 0, 0, 0, 0, 1], [2, 2, 2, 3, 3, 0]], dtype=torch.uint8)
    masks = torch.zeros(5, 2, 6, dtype=torch.bool)
    masks[0, 1, 0:3] = True  # a dog
    masks[1, 1, 1:5] = True  # half occluded by the dog: kept
    masks[2, 1, 0:2] = True  # fully occluded by the dog
    masks[3, :, :] = True  # score below the threshold
    instances = make_instances(masks, [0.9, 0.8, 0.7, 0.2, 0.75], [1, 0, 0, 0, 0])
    panoptic, segments = merge_scene(instances, labels)
    # Grass has a single pixel, and a pixel labeled "dog" has no instance.
    assert panoptic.tolist() == [[3, 3, 3, 3, 3, 0], [1, 1, 1, 2, 2, 3]]
    assert panoptic.dtype == torch.int32
    scores = [segment.pop("score") for segment in segments[:2]]
    assert scores == pytest.approx([0.9, 0.8])
    assert segments == [
        {"id": 1, "isthing": True, "category_id": 3, "instance_id": 0},
        {"id": 2, "isthing": True, "category_id": 2, "instance_id": 1},
        {"id": 3, "isthing": False, "category_id": 0, "area": 6},
    ]


def test_things_without_an_instance_stay_void() -> None:
    labels = torch.tensor([[2, 3], [0, 0]])
    nothing = make_instances(torch.zeros(0, 2, 2, dtype=torch.bool), [], [])
    panoptic, segments = merge_scene(nothing, labels)
    assert panoptic.tolist() == [[0, 0], [1, 1]]
    assert [segment["category_id"] for segment in segments] == [0]


def test_instances_without_a_panoptic_class_are_ignored() -> None:
    instances = make_instances(torch.ones(1, 2, 2, dtype=torch.bool), [0.9], [0])
    panoptic, segments = merge(
        instances,
        torch.zeros(2, 2, dtype=torch.int64),
        thing_to_panoptic=torch.tensor([-1]),
        leaf_to_panoptic=torch.tensor([5]),
        overlap_threshold=0.5,
        stuff_area_limit=1,
        score_threshold=0.5,
    )
    assert (panoptic == 1).all()
    assert segments == [{"id": 1, "isthing": False, "category_id": 5, "area": 4}]


def test_run_length_masks() -> None:
    labels = torch.zeros(3, 4, dtype=torch.int64)
    masks = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    instances = make_instances(masks, [0.5, 0.9, 0.6], [0, 1, 0])
    expected = merge_scene(instances, labels)
    planes = np.asfortranarray(masks.permute(1, 2, 0).byte().numpy())
    instances.pred_masks = RLEMasks(coco_mask.encode(planes), height=3, width=4)
    panoptic, segments = merge_scene(instances, labels)
    assert torch.equal(panoptic, expected[0])
    assert segments == expected[1]


@pytest.mark.parametrize("seed", range(20))
def test_result_equals_that_of_detectron2(seed: int) -> None:
    """With detectron2's convention: label 0 stands for all things, the others are stuff."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (4, 5), generator=generator).repeat_interleave(4, 0)
    labels = labels.repeat_interleave(5, 1)  # (16, 25)
    corners = torch.randint(0, 12, (8, 4), generator=generator)
    masks = torch.zeros(8, 16, 25, dtype=torch.bool)
    for mask, (y, x, h, w) in zip(masks, corners.tolist(), strict=True):
        mask[y : y + h, x : x + w] = True  # some are empty
    scores = torch.rand(8, generator=generator).tolist()
    classes = torch.randint(0, 4, (8,), generator=generator).tolist()
    instances = make_instances(masks, scores, classes)
    expected_map, expected = combine_semantic_and_instance_outputs(instances, labels, 0.4, 30, 0.25)
    panoptic, segments = merge(
        instances,
        labels,
        thing_to_panoptic=torch.arange(4),
        leaf_to_panoptic=torch.tensor([-1, 1, 2, 3, 4, 5]),
        overlap_threshold=0.4,
        stuff_area_limit=30,
        score_threshold=0.25,
    )
    assert torch.equal(panoptic, expected_map)
    assert segments == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_invariants(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    number = data.draw(st.integers(0, 4))
    pixel = st.integers(0, 3)
    cells = height * width
    labels = data.draw(st.lists(pixel, min_size=cells, max_size=cells))
    bits = data.draw(st.lists(st.booleans(), min_size=number * cells, max_size=number * cells))
    scores = st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=number, max_size=number)
    classes = st.lists(st.integers(0, 1), min_size=number, max_size=number)
    masks = torch.tensor(bits, dtype=torch.bool).view(number, height, width)
    instances = make_instances(masks, data.draw(scores), data.draw(classes))
    overlap, area = data.draw(st.sampled_from([0.0, 0.5, 1.0])), data.draw(st.integers(0, 4))
    semantic = torch.tensor(labels).view(height, width)
    panoptic, segments = merge_scene(instances, semantic, overlap=overlap, area=area)

    assert [segment["id"] for segment in segments] == list(range(1, len(segments) + 1))
    assert set(panoptic.unique().tolist()) - {0} == {segment["id"] for segment in segments}
    for segment in segments:
        region = panoptic == segment["id"]
        if segment["isthing"]:
            assert masks[segment["instance_id"]][region].all()
            assert segment["category_id"] == THINGS[class_of(instances, segment)]
            assert segment["score"] >= 0.3
        else:
            assert (STUFF[semantic[region]] == segment["category_id"]).all()
            assert segment["area"] == region.sum() >= area
    json.dumps(segments)


def class_of(instances: Instances, segment: Segment) -> int:
    return int(instances.pred_classes[segment["instance_id"]])


def test_tables_of_coco() -> None:
    things, leaves = panoptic_tables(MetadataCatalog.get("coco_2017_val_multitask"))
    metadata = MetadataCatalog.get("coco_2017_val_multitask_panoptic")
    assert len(things) == 80
    assert len(leaves) == 171
    assert leaves[:80] == [-1] * 80
    stuff = set(leaves) - {-1}
    assert stuff == {i for i, thing in enumerate(COCO_PANOPTIC.is_thing) if not thing}
    assert len(stuff) == 53
    names = [*metadata.stuff_classes, "void"]
    name_of = {leaf: names[index] for leaf, index in zip(COCO_LEAVES.names, leaves, strict=True)}
    assert name_of["wall-brick"] == "wall-brick"
    assert name_of["wall-panel"] == "wall-other-merged"
    assert name_of["fog"] == "sky-other-merged"
    assert name_of["clothes"] == name_of["person"] == "void"
    # Predicted category ids map back to COCO's ids.
    things_of_coco = {v: k for k, v in metadata.thing_dataset_id_to_contiguous_id.items()}
    assert [things_of_coco[index] for index in things] == list(COCO_LEAVES.ids[:80])
    stuff_of_coco = {v: k for k, v in metadata.stuff_dataset_id_to_contiguous_id.items()}
    assert {stuff_of_coco[index] for index in stuff} <= set(COCO_PANOPTIC.ids)


def test_tables_of_the_toy_scenes() -> None:
    metadata = MetadataCatalog.get("toy_scenes_val")
    things, leaves = panoptic_tables(metadata)
    classes, is_thing = metadata.panoptic_classes, metadata.panoptic_is_thing
    assert [classes[index] for index in things] == metadata.thing_classes
    assert leaves == [-1 if thing else index for index, thing in enumerate(is_thing)]


def test_tables_from_names_alone() -> None:
    metadata = MetadataCatalog.get("panoptic_from_names")
    metadata.set(
        thing_classes=["dog", "ghost", "car"],
        stuff_classes=["sky", "car", "mist", "grass"],
        panoptic_classes=["grass", "car", "dog", "sky"],
        panoptic_is_thing=[False, True, True, False],
    )
    try:
        assert panoptic_tables(metadata) == ([2, -1, 1], [3, -1, -1, 0])
    finally:
        MetadataCatalog.remove("panoptic_from_names")


def test_detectron2_draws_results_without_panoptic_classes() -> None:
    name = "no_panoptic_classes"
    metadata = MetadataCatalog.get(name).set(
        thing_classes=["dog", "car"], stuff_classes=["things", "car", "sky"]
    )
    try:
        assert panoptic_tables(metadata) == ([0, 1], [-1, -1, 2])
        merger = PanopticMerger(
            thing_to_panoptic=[0, 1], leaf_to_panoptic=[-1, -1, 2], stuff_area_limit=1
        )
        masks = torch.zeros(1, 40, 40, dtype=torch.bool)
        masks[0, 10:20] = True
        labels = SemanticMap(torch.full((40, 40), 2, dtype=torch.uint8), 3)
        panoptic, segments = merger(make_instances(masks, [0.9], [1]), labels)
        picture = Visualizer(torch.zeros(40, 40, 3).numpy(), metadata)
        texts = picture.draw_panoptic_seg(panoptic, segments).ax.texts
        assert {text.get_text().split()[0] for text in texts} == {"car", "sky"}
    finally:
        MetadataCatalog.remove(name)


@pytest.mark.parametrize("missing", ["thing_classes", "stuff_classes"])
def test_no_tables_without_things_and_semantic_classes(missing: str) -> None:
    name = f"panoptic_without_{missing}"
    present = {"thing_classes": ["dog"], "stuff_classes": ["sky"]}
    del present[missing]
    try:
        assert panoptic_tables(MetadataCatalog.get(name).set(**present)) is None
    finally:
        MetadataCatalog.remove(name)


def test_merger_from_config() -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("coco_2017_train_multitask",)
    combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
    combine.OVERLAP_THRESH, combine.STUFF_AREA_LIMIT = 0.7, 3
    combine.INSTANCES_CONFIDENCE_THRESH = 0.25
    merger = PanopticMerger.from_config(cfg)
    assert set(merger.state_dict()) == {"thing_to_panoptic", "leaf_to_panoptic"}
    masks = torch.zeros(2, 2, 4, dtype=torch.bool)
    masks[0, :, :1] = masks[1, :, :3] = True
    sky = COCO_LEAVES.names.index("sky-other")
    logits = torch.zeros(171, 2, 4)
    logits[sky] = 1
    instances = make_instances(masks, [0.3, 0.2], [0, 0])
    for sem_seg in (logits, SemanticMap(logits.argmax(dim=0).byte(), 171)):
        panoptic, segments = merger(instances, sem_seg)
        assert panoptic.tolist() == [[1, 2, 2, 2]] * 2
        assert COCO_PANOPTIC.names[segments[1]["category_id"]] == "sky-other-merged"
    combine.ENABLED = False
    assert PanopticMerger.from_config(cfg) is None


def test_weights_without_tables_keep_those_of_the_network() -> None:
    merger = PanopticMerger(thing_to_panoptic=[0, 1], leaf_to_panoptic=[-1, 2])
    state = merger.state_dict()
    merger.load_state_dict({})
    assert merger.thing_to_panoptic.tolist() == [0, 1]
    del state["leaf_to_panoptic"]
    with pytest.raises(RuntimeError, match=r"Missing key.*leaf_to_panoptic"):
        merger.load_state_dict(state)
