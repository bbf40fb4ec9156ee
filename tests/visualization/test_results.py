"""Every layer is drawn, differs from the others, and is at the position of its objects."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from yolor_d2.structures import RLEMasks, SemanticMap
from yolor_d2.visualization import BACKGROUND, LAYERS, draw_results

RED, BLUE, GREEN = (200, 30, 30), (30, 60, 220), (20, 180, 60)
METADATA = SimpleNamespace(
    thing_classes=["ball", "box"],
    thing_colors=[RED, BLUE],
    stuff_classes=["sky", "grass"],
    stuff_colors=[BLUE, GREEN],
    panoptic_classes=["ball", "box", "sky", "grass"],
    panoptic_colors=[RED, BLUE, (90, 160, 250), GREEN],
)
HEIGHT, WIDTH = 500, 600
BALL, BOX = (60, 100, 200, 240), (300, 260, 520, 420)
CAPTION = "Ein Ball über dem Gras"


def make_instances(boxes: list, masks: bool = True, size: tuple = (HEIGHT, WIDTH)) -> Instances:
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.pred_classes = torch.arange(len(boxes)) % 2
    instances.scores = torch.linspace(0.9, 0.3, len(boxes))
    if masks:
        instances.pred_masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, boxes, strict=True):
            inset = (x1 - x0) // 8
            mask[y0 + inset : y1 - inset, x0 + inset : x1 - inset] = True
    return instances


@pytest.fixture
def image() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 120, np.uint8)


@pytest.fixture
def result() -> dict[str, Any]:
    labels = torch.full((HEIGHT, WIDTH), 255, dtype=torch.uint8)
    labels[:150, 50:] = 0
    labels[350:] = 1
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    ids[:150], ids[350:], ids[200:300, 200:300] = 7, 3, 90000
    segments = [
        {"id": 7, "category_id": 2, "isthing": False},
        {"id": 3, "category_id": 3, "isthing": False},
        {"id": 90000, "category_id": 0, "isthing": True, "score": 0.8},
    ]
    return {
        "instances": make_instances([BALL, BOX]),
        "sem_seg": SemanticMap(labels, 2),
        "panoptic_seg": (ids, segments),
        "caption": CAPTION,
    }


def changed(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W) bool."""
    return (picture[: image.shape[0], : image.shape[1]] != image).any(axis=2)


def area_of(*rectangles: tuple[int, int, int, int], grown: int = 0) -> np.ndarray:
    area = np.zeros((HEIGHT, WIDTH), bool)
    for x0, y0, x1, y1 in rectangles:
        area[max(y0 - grown, 0) : y1 + grown, max(x0 - grown, 0) : x1 + grown] = True
    return area


def inside_masks(result: dict[str, Any], grown: int = 0) -> np.ndarray:
    insets = [(x0, y0, x1, y1, (x1 - x0) // 8 - grown) for x0, y0, x1, y1 in (BALL, BOX)]
    return area_of(*((x0 + i, y0 + i, x1 - i, y1 - i) for x0, y0, x1, y1, i in insets))


def test_masks_change_only_their_own_pixels(image: np.ndarray, result: dict[str, Any]) -> None:
    touched = changed(draw_results(image, result, METADATA, layers=("masks",)), image)
    assert touched[inside_masks(result)].all()
    assert not touched[~inside_masks(result, grown=3)].any()


def test_masks_have_the_colors_of_their_classes_and_an_outline(
    image: np.ndarray, result: dict[str, Any]
) -> None:
    picture = draw_results(image, result, METADATA, layers=("masks",), opacity=0.5)
    np.testing.assert_allclose(picture[170, 130], (120 + np.array(RED)) / 2, atol=1)
    np.testing.assert_allclose(picture[340, 410], (120 + np.array(BLUE)) / 2, atol=1)
    np.testing.assert_allclose(picture[170, 60 + 17], RED, atol=40)  # the line is antialiased
    clear = draw_results(image, result, METADATA, layers=("masks",), opacity=0)
    assert not changed(clear, image)[170, 130]
    assert changed(clear, image)[170, 60 + 17]


def test_boxes_change_only_their_edges(image: np.ndarray, result: dict[str, Any]) -> None:
    touched = changed(draw_results(image, result, METADATA, layers=("boxes",)), image)
    assert touched[170, 60]
    assert touched[260, 400]
    edges = area_of(BALL, BOX, grown=3) & ~area_of(BALL, grown=-4) & ~area_of(BOX, grown=-4)
    assert not touched[~edges].any()


def test_semantic_maps_leave_unknown_pixels_unchanged(
    image: np.ndarray, result: dict[str, Any]
) -> None:
    picture = draw_results(image, result, METADATA, layers=("semantic",))
    known = result["sem_seg"].labels.numpy() != 255
    np.testing.assert_array_equal(changed(picture, image), known)
    np.testing.assert_allclose(picture[400, 10], (120 + np.array(GREEN)) / 2, atol=1)


def test_logits_are_drawn_like_labels(image: np.ndarray, result: dict[str, Any]) -> None:
    labels = result["sem_seg"].labels.long() % 2
    logits = torch.nn.functional.one_hot(labels, 2).permute(2, 0, 1).float()
    pictures = [
        draw_results(image, {"sem_seg": sem_seg}, METADATA)
        for sem_seg in (logits, SemanticMap(labels, 2))
    ]
    np.testing.assert_array_equal(*pictures)


def test_panoptic_maps_tint_and_outline(image: np.ndarray, result: dict[str, Any]) -> None:
    picture = draw_results(image, result, METADATA, layers=("panoptic",))
    known = result["panoptic_seg"][0].numpy() > 0
    np.testing.assert_array_equal(changed(picture, image), known)
    np.testing.assert_allclose(picture[250, 250], (120 + np.array(RED)) / 2, atol=1)
    np.testing.assert_array_equal(picture[250, 200], RED)


def test_labels_of_objects_and_regions(image: np.ndarray, result: dict[str, Any]) -> None:
    bare = draw_results(image, result, METADATA, layers=("boxes",))
    plates = changed(draw_results(image, result, METADATA, layers=("boxes", "labels")), bare)
    assert plates[80:100, 60:120].mean() > 0.7  # above the ball's box
    assert not plates[120:220].any()
    for layer, color in (("semantic", GREEN), ("panoptic", METADATA.panoptic_colors[3])):
        bare = draw_results(image, result, METADATA, layers=(layer,))
        named = draw_results(image, result, METADATA, layers=(layer, "labels"))
        plates = changed(named, bare)
        assert plates[350:].any()
        assert not plates[160:190].any()
        assert (named[350:][plates[350:]] == color).all(axis=1).mean() > 0.4


def test_captions_are_below_the_image(image: np.ndarray, result: dict[str, Any]) -> None:
    picture = draw_results(image, result, METADATA, layers=("caption",))
    np.testing.assert_array_equal(picture[:HEIGHT], image)
    strip = picture[HEIGHT:]
    assert (strip == BACKGROUND).all(axis=2).mean() > 0.6
    assert (strip < 100).any()


def test_all_layers_differ(image: np.ndarray, result: dict[str, Any]) -> None:
    pictures = [draw_results(image, result, METADATA, layers=(layer,)) for layer in LAYERS]
    pictures.append(image)
    assert len({(p.shape, p.tobytes()) for p in pictures}) == len(LAYERS) + 1
    every = draw_results(image, result, METADATA, layers=LAYERS)
    assert changed(every, image).mean() > 0.6


@pytest.mark.parametrize(
    ("keys", "layers"),
    [
        (("instances", "sem_seg", "panoptic_seg", "caption"), ("panoptic", "labels", "caption")),
        (("instances", "sem_seg", "caption"), ("masks", "boxes", "labels", "caption")),
        (("sem_seg",), ("semantic", "labels")),
        (("caption",), ("caption",)),
    ],
)
def test_default_layers(
    image: np.ndarray, result: dict[str, Any], keys: tuple, layers: tuple
) -> None:
    known = {key: result[key] for key in keys}
    np.testing.assert_array_equal(
        draw_results(image, known, METADATA), draw_results(image, result, METADATA, layers=layers)
    )


def test_inputs_are_not_modified(image: np.ndarray, result: dict[str, Any]) -> None:
    image.setflags(write=False)
    masks = result["instances"].pred_masks.clone()
    labels, ids = result["sem_seg"].labels.clone(), result["panoptic_seg"][0].clone()
    picture = draw_results(image, result, METADATA, layers=LAYERS)
    assert not np.shares_memory(picture, image)
    assert (image == 120).all()
    assert (result["instances"].pred_masks == masks).all()
    assert (result["sem_seg"].labels == labels).all()
    assert (result["panoptic_seg"][0] == ids).all()


def test_run_lengths_are_drawn_like_dense_masks(image: np.ndarray, result: dict[str, Any]) -> None:
    dense = draw_results(image, result, METADATA, layers=("masks",))
    instances = result["instances"]
    rles = [coco_mask.encode(np.asfortranarray(m.numpy())) for m in instances.pred_masks]
    instances.pred_masks = RLEMasks(rles, HEIGHT, WIDTH)
    np.testing.assert_array_equal(draw_results(image, result, METADATA, layers=("masks",)), dense)


@pytest.mark.parametrize("stride", [2, 4, 0.5])
def test_masks_and_maps_of_any_resolution_have_the_same_position(
    image: np.ndarray, result: dict[str, Any], stride: float
) -> None:
    layers = ("masks", "semantic")
    fine = changed(draw_results(image, result, METADATA, layers=layers), image)
    instances = result["instances"]
    resize = torch.nn.Upsample(scale_factor=1 / stride)
    instances.pred_masks = resize(instances.pred_masks[None].float())[0].bool()
    result["sem_seg"].labels = resize(result["sem_seg"].labels[None, None].float())[0, 0].byte()
    coarse = changed(draw_results(image, result, METADATA, layers=layers), image)
    assert (fine != coarse).mean() < 0.02


def test_small_images_are_enlarged() -> None:
    image = np.full((90, 120, 3), 120, np.uint8)
    found = {"instances": make_instances([(30, 40, 70, 80)], size=(90, 120))}
    picture = draw_results(image, found, METADATA, layers=("boxes", "masks"))
    assert picture.shape == (360, 480, 3)
    touched = (picture != 120).any(axis=2)
    assert touched[165:315, 125:275].mean() > 0.6
    assert not touched[:150].any()
    assert not touched[:, :110].any()


def test_objects_below_the_threshold_are_left_out(
    image: np.ndarray, result: dict[str, Any]
) -> None:
    one, none = (
        changed(draw_results(image, result, METADATA, layers=("masks",), score_threshold=s), image)
        for s in (0.5, 1.0)
    )
    assert one[170, 130]
    assert not one[340, 410]
    assert not none.any()


def test_objects_without_scores_are_drawn(image: np.ndarray, result: dict[str, Any]) -> None:
    result["instances"].remove("scores")
    picture = draw_results(image, result, METADATA, layers=("masks",), score_threshold=1.0)
    assert changed(picture, image)[inside_masks(result)].all()


@pytest.mark.parametrize(
    "metadata", [None, SimpleNamespace(), SimpleNamespace(thing_classes=["a"])]
)
def test_unknown_classes_have_stable_names_and_colors(
    image: np.ndarray, result: dict[str, Any], metadata: Any
) -> None:
    for layer in LAYERS:
        first, second = (draw_results(image, result, metadata, layers=(layer,)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape != image.shape or changed(first, image).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 10_000), (10_000, 2), (40, 10_000), (7, 5)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    height, width = size
    image = np.full((height, width, 3), 90, np.uint8)
    instances = make_instances([(0, 0, width, height)], size=size)
    instances.pred_masks[:] = True
    result = {
        "instances": instances,
        "sem_seg": SemanticMap(torch.zeros(size, dtype=torch.uint8), 2),
        "panoptic_seg": (torch.ones(size).int(), [{"id": 1, "category_id": 0, "isthing": True}]),
        "caption": CAPTION,
    }
    for layer in ("masks", "boxes", "semantic", "panoptic", "caption"):
        picture = draw_results(image, result, METADATA, layers=(layer, "labels"))
        scale = -(-480 // max(size))
        assert picture.shape[0] >= height * scale
        assert (picture != 90).any()


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [(700, 10, 800, 90), (-90, -80, -10, -5), (10, 600, 50, 700)],  # outside the image
        [(float("nan"), 10, 50, 50), (0, 0, float("inf"), 9)],
    ],
)
def test_boxes_outside_the_image_are_not_drawn(image: np.ndarray, boxes: list) -> None:
    found = {"instances": make_instances(boxes, masks=False)}
    np.testing.assert_array_equal(draw_results(image, found, METADATA), image)


def test_huge_boxes_are_drawn_at_the_border(image: np.ndarray) -> None:
    found = {"instances": make_instances([(-1e9, -1e9, 1e9, 1e9)], masks=False)}
    touched = changed(draw_results(image, found, METADATA, layers=("boxes",)), image)
    assert touched[0].all()
    assert touched[:, 0].all()
    assert touched[-1].all()
    assert touched[:, -1].all()
    assert not touched[5:-5, 5:-5].any()


def test_three_hundred_objects(image: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (WIDTH - 60, HEIGHT - 60), (300, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, 60, (300, 2))], axis=1).tolist()
    found = {"instances": make_instances(boxes)}
    touched = changed(draw_results(image, found, METADATA), image)
    assert touched[area_of(*map(tuple, boxes), grown=-6)].mean() > 0.9


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, "RGB uint8"),
        (np.zeros((4, 4, 3)), {}, "float64"),
        (np.zeros((0, 4, 3), np.uint8), {}, r"\(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), {"layers": ("depth",)}, "depth"),
        (np.zeros((4, 4, 3), np.uint8), {"layers": "masks"}, "some of semantic"),
        (np.zeros((4, 4, 3), np.uint8), {"opacity": 2.0}, "opacity"),
    ],
)
def test_invalid_arguments_are_refused(image: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_results(image, {}, METADATA, **options)
