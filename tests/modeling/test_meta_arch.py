"""The whole network: subsets of tasks, views, batches, sizes."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils.visualizer import Visualizer
from torch import nn

from yolor_d2.modeling.deploy import deploy, to_channels_last
from yolor_d2.modeling.layers import FrozenStatistics
from yolor_d2.modeling.results import RawOutputs, in_float32
from yolor_d2.tasks import TASKS
from yolor_d2.tokenizer import Tokenizer

from .factory import (
    LEAVES,
    detectron2_semantic_model,
    instances_in,
    random_batch,
    random_instances,
    tiny_model,
)

SUBSETS = [
    subset
    for number in range(1, 5)
    for subset in itertools.combinations(TASKS, number)
    if "mask" not in subset or "detection" in subset
]
LOSSES = {
    "detection": {"loss_cls", "loss_box", "loss_dfl"},
    "mask": {"loss_mask"},
    "semantic": {"loss_sem_focal", "loss_sem_dice"},
    "caption": {"loss_caption"},
}
IN_A_CELL = torch.tensor([32.0, 32.0, 36.0, 36.0]) + torch.arange(14)[:, None] * 0.25
OUTPUTS = {"detection": "instances", "semantic": "sem_seg", "caption": "caption_ids"}


def gradients(model, losses):
    sum(losses.values()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("tasks", SUBSETS, ids="-".join)
def test_each_subset_of_tasks_trains_and_predicts(tasks) -> None:
    model = tiny_model(tasks)

    losses = model(random_batch())

    assert set(losses) == set.union(*(LOSSES[task] for task in tasks))
    assert all(torch.isfinite(loss) for loss in losses.values())
    without = [name for name, grad in gradients(model, losses).items() if grad is None]
    assert not without
    result = model.eval()(random_batch()[:1])[0]
    assert {OUTPUTS[task] for task in tasks if task != "mask"} <= set(result)
    assert ("panoptic_seg" in result) == ({"mask", "semantic"} <= set(tasks))
    if "mask" in tasks:
        assert result["instances"].pred_masks.shape[1:] == (64, 96)


@pytest.mark.parametrize("weak", [(), ("caption",), ("semantic", "caption"), TASKS], ids=len)
def test_each_choice_of_weak_tasks_trains(weak) -> None:
    model = tiny_model(TASKS, "INPUT.WEAK_VIEW_TASKS", list(weak))
    batch = random_batch(weak_size=(61, 90))
    rng = torch.Generator().manual_seed(1)
    for sample in batch:
        sample["weak_instances"] = random_instances(2, size=(61, 90), rng=rng)
        sample["weak_sem_seg"] = torch.randint(LEAVES, (16, 23), generator=rng)
        sample["weak_mask_stride"] = sample["weak_sem_seg_stride"] = 4

    grads = gradients(model, model(batch))

    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads.values())


def test_views_of_equal_canvases_are_one_pass_of_the_backbone() -> None:
    model = tiny_model()
    calls = []
    model.backbone.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))

    model(random_batch())
    model(random_batch(weak_size=(64, 64)))

    assert calls == [4, 2, 2]


@pytest.mark.parametrize("weak_size", [(64, 96), (64, 64)])
def test_a_frozen_weak_view_does_not_change_the_statistics(weak_size) -> None:
    tasks, batch = ("detection", "caption"), random_batch(weak_size=weak_size)
    updated = tiny_model(tasks)
    frozen = tiny_model(tasks, "MODEL.YOLOR.WEAK_BN", "frozen")
    strong_alone = copy.deepcopy(frozen)

    updated(batch), frozen(batch)
    strong_alone.extract(torch.stack([sample["image"] for sample in batch]), {"p3", "p4", "p5"})

    after = strong_alone.backbone.state_dict()
    names = [name for name in after if "running" in name]
    assert all(torch.equal(frozen.backbone.state_dict()[name], after[name]) for name in names)
    assert not all(torch.equal(updated.backbone.state_dict()[name], after[name]) for name in names)


def test_frozen_statistics_do_not_change() -> None:
    """Also by infinite activations, and the number of batches does not advance."""
    norm = nn.BatchNorm2d(3).train()
    before = copy.deepcopy(norm.state_dict())
    with FrozenStatistics(norm):
        norm(torch.full((2, 3, 4, 4), torch.inf))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm(torch.rand(2, 3, 4, 4))
    assert norm.num_batches_tracked == 1


def test_a_frozen_weak_view_is_not_counted() -> None:
    model = tiny_model(("detection", "caption"), "MODEL.YOLOR.WEAK_BN", "frozen")
    model(random_batch(weak_size=(64, 64)))
    assert model.backbone.bottom_up.stem[0].norm.num_batches_tracked == 1


def test_unknown_targets_have_no_gradient() -> None:
    model = tiny_model(TASKS)
    model(random_batch())  # sets the statistics of batch norms
    known, unknown = random_batch(images=2)
    for key in ("instances", "sem_seg", "caption_ids"):
        del unknown[key]

    grads = gradients(model, model([unknown, unknown]))

    assert all(grad is not None and not grad.any() for grad in grads.values())
    assert any(grad.any() for grad in gradients(model, model([known, unknown])).values())


@pytest.mark.parametrize(
    "change",
    [
        {"instances": random_instances(0, size=(64, 96), rng=torch.Generator())},
        {"sem_seg": torch.full((16, 24), 255)},
        {"caption_ids": torch.tensor([1, 2])},
        {"instances": random_instances(3000, size=(64, 96), rng=torch.Generator())},
        {"instances": instances_in(IN_A_CELL, size=(64, 96), rng=torch.Generator())},
    ],
    ids=["no objects", "nothing labeled", "empty caption", "3,000 objects", "14 in a cell"],
)
def test_extreme_targets_give_finite_losses(change) -> None:
    model = tiny_model()

    grads = gradients(model, model([sample | change for sample in random_batch()]))

    assert all(torch.isfinite(grad).all() for grad in grads.values())


def equal_results(first, second) -> None:
    assert torch.allclose(
        first["instances"].pred_boxes.tensor, second["instances"].pred_boxes.tensor, atol=1e-3
    )
    assert torch.allclose(first["instances"].scores, second["instances"].scores, atol=1e-5)
    assert (first["sem_seg"].argmax(dim=0) == second["sem_seg"].argmax(dim=0)).float().mean() > 0.99
    assert first["caption_ids"] == second["caption_ids"]


def test_results_do_not_depend_on_other_images_of_the_batch() -> None:
    model = tiny_model().eval()
    sizes = [(64, 96), (33, 47), (64, 90), (1, 1), (96, 64), (40, 61)]
    batch = [random_batch(images=1, size=size, seed=n)[0] for n, size in enumerate(sizes)]
    batch[2] |= {"height": 130, "width": 181}

    together = model(batch)

    for sample, result in zip(batch, together, strict=True):
        size = (
            sample.get("height", sample["image"].shape[1]),
            sample.get("width", sample["image"].shape[2]),
        )
        assert result["instances"].image_size == size
        assert result["instances"].pred_masks.shape[1:] == size
        assert result["sem_seg"].shape == (LEAVES, *size)
        assert result["panoptic_seg"][0].shape == size
        equal_results(model([sample])[0], result)


@pytest.mark.parametrize("pad", ["corner", "center"])
def test_a_large_odd_image(pad) -> None:
    model = tiny_model(TASKS, "MODEL.YOLOR.PAD", pad).eval()
    image = torch.randint(256, (3, 800, 1333), dtype=torch.uint8)

    result = model([{"image": image, "height": 400, "width": 667}])[0]

    boxes = result["instances"].pred_boxes.tensor
    assert len(boxes)
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([667, 400, 667, 400])).all()


def test_deployed_network_has_the_same_results_and_no_norms() -> None:
    model = tiny_model()
    model(random_batch())  # changes the statistics
    model.eval()

    deployed = to_channels_last(deploy(model))

    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in deployed.modules())
    assert not any("implicit" in name for name, _ in deployed.named_parameters())
    images = random_batch()[0]["image"][None].float()
    found, expected = deployed.raw_outputs(images).detection, model.raw_outputs(images).detection
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)
    assert torch.allclose(found.bins, expected.bins, atol=1e-4)
    equal_results(model(random_batch())[0], deployed(random_batch())[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(dtype) -> None:
    model = tiny_model()
    with torch.autocast("cpu", dtype=dtype):
        losses = model(random_batch())
    assert all(torch.isfinite(grad).all() for grad in gradients(model, losses).values())
    with torch.autocast("cpu", dtype=dtype):
        result = model.eval()(random_batch())[0]
    assert torch.isfinite(result["instances"].scores).all()


def test_the_network_compiles_in_one_graph() -> None:
    model = tiny_model().eval()
    images = torch.rand(2, 3, 64, 96) * 255
    compiled = torch.compile(model.raw_outputs, fullgraph=True, backend="eager")

    with torch.no_grad():
        raw, expected = compiled(images), model.raw_outputs(images)

    for one, other in zip(tensors_of(raw), tensors_of(expected), strict=True):
        assert torch.equal(one, other)


def tensors_of(raw: RawOutputs) -> list[torch.Tensor]:
    outputs = [*raw.detection, *raw.mask, raw.semantic, *raw.caption]
    return [output for output in outputs if output is not None]


def test_trains_compiled() -> None:
    model = tiny_model()
    model.backbone = torch.compile(model.backbone, backend="aot_eager")
    grads = gradients(model, model(random_batch()))
    assert all(grad is not None for grad in grads.values())


def test_copies_pickles_and_moves() -> None:
    model = tiny_model().eval()
    batch = random_batch()
    expected = model(batch)[0]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.double().float()):
        equal_results(twin(batch)[0], expected)
    moved = copy.deepcopy(model).to("meta")
    assert {p.device.type for p in itertools.chain(moved.parameters(), moved.buffers())} == {"meta"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.YOLOR.TASKS", []), "MODEL.YOLOR.TASKS is empty"),
        (("MODEL.YOLOR.TASKS", ["boxes"]), "MODEL.YOLOR.TASKS has boxes"),
        (("MODEL.YOLOR.TASKS", ["mask"]), 'MODEL.YOLOR.TASKS has "mask"'),
        (("MODEL.YOLOR.WEAK_BN", "never"), "MODEL.YOLOR.WEAK_BN"),
        (("MODEL.YOLOR.WEAK_BN", "frozen", "INPUT.WEAK_VIEW_TASKS", TASKS), "MODEL.YOLOR.WEAK_BN"),
        (("MODEL.YOLOR.PAD", "left"), "MODEL.YOLOR.PAD"),
        (("MODEL.DETECTION_HEAD.NUM_CLASSES", 5), "MODEL.DETECTION_HEAD.NUM_CLASSES is 5, but"),
        (("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5), "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 5, but"),
        (("MODEL.DETECTION_HEAD.ASSIGN.ALPHA", -1.0), "MODEL.DETECTION_HEAD.ASSIGN.ALPHA"),
        (("MODEL.DETECTION_HEAD.TEST.NMS_THRESH", -1.0), "MODEL.DETECTION_HEAD.TEST.NMS_THRESH"),
        (("MODEL.DETECTION_HEAD.TEST.PRE_NMS_TOPK", 0), "MODEL.DETECTION_HEAD.TEST.PRE_NMS_TOPK"),
        (("TEST.DETECTIONS_PER_IMAGE", 0), "TEST.DETECTIONS_PER_IMAGE"),
        (("MODEL.DETECTION_HEAD.LOSS_WEIGHT.BOX", -1.0), "MODEL.DETECTION_HEAD.LOSS_WEIGHT.BOX"),
        (("MODEL.MASK_HEAD.LOSS_WEIGHT", -1.0), "MODEL.MASK_HEAD.LOSS_WEIGHT"),
        (("MODEL.MASK_HEAD.PROTO_FEATURE", "p9"), "MODEL.MASK_HEAD.PROTO_FEATURE"),
        (("MODEL.SEM_SEG_HEAD.DICE_WEIGHT", -1.0), "MODEL.SEM_SEG_HEAD.DICE_WEIGHT"),
        (("MODEL.CAPTION_HEAD.LOSS_WEIGHT", -1.0), "MODEL.CAPTION_HEAD.LOSS_WEIGHT"),
        (("MODEL.PIXEL_STD", [1.0, 0.0, 1.0]), "MODEL.PIXEL_STD"),
        (("MODEL.PIXEL_MEAN", [1.0, 2.0]), "MODEL.PIXEL_MEAN"),
        (("MODEL.YOLOR.TASKS", ["caption", "caption"]), "MODEL.YOLOR.TASKS has caption twice"),
        (("MODEL.DETECTION_HEAD.NUM_CLASSES", -1), "MODEL.DETECTION_HEAD.NUM_CLASSES"),
        (("MODEL.DETECTION_HEAD.IN_FEATURES", ["p9"]), "MODEL.DETECTION_HEAD.IN_FEATURES"),
        (("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["p9"]), "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (("MODEL.MASK_HEAD.MASK_FORMAT", "png"), "MODEL.MASK_HEAD.MASK_FORMAT"),
        (("MODEL.CAPTION_HEAD.NUM_HEADS", 3), "MODEL.CAPTION_HEAD.NUM_HEADS"),
        (("MODEL.YOLOR_ELAN.WIDTH", 0.0), "MODEL.YOLOR_ELAN.WIDTH"),
        (("MODEL.PAN.OUT_FEATURES", ["p3"]), "MODEL.DETECTION_HEAD.IN_FEATURES has p4, p5"),
        (("DATASETS.TRAIN", (), "DATASETS.TEST", ()), "MODEL.DETECTION_HEAD.NUM_CLASSES"),
    ],
)
def test_errors_name_the_key(overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(TASKS, *overrides)


def test_a_missing_view_is_named() -> None:
    batch = random_batch()
    del batch[1]["weak_image"]
    with pytest.raises(ValueError, match='no "weak_image", needed by caption'):
        tiny_model()(batch)


def test_detectron2_evaluates_and_draws_the_results() -> None:
    result = tiny_model().eval()(random_batch()[:1])[0]
    instances = result["instances"].to("cpu")
    metadata = MetadataCatalog.get("toy_scenes_val")

    objects = instances_to_coco_json(instances, 7)
    picture = Visualizer(np.zeros((64, 96, 3), np.uint8), metadata)
    picture.draw_instance_predictions(instances[:5])
    picture.draw_sem_seg(result["sem_seg"].argmax(dim=0))
    panoptic = Visualizer(
        np.zeros((64, 96, 3), np.uint8), MetadataCatalog.get("toy_scenes_val_panoptic")
    )
    panoptic.draw_panoptic_seg_predictions(*result["panoptic_seg"])

    assert len(objects) == len(instances) > 0
    assert {"image_id", "category_id", "bbox", "score", "segmentation"} <= objects[0].keys()


def test_detectron2s_semantic_head_works_in_ours() -> None:
    model, batch = detectron2_semantic_model()

    losses = model(batch)
    result = model.eval()(batch)[0]

    assert set(losses) == {"loss_sem_seg"}
    assert result["sem_seg"].argmax(dim=0).shape == (64, 96)


def test_full_logits_on_request() -> None:
    model = tiny_model(("semantic",), "MODEL.SEM_SEG_HEAD.FULL_LOGITS", True).eval()
    labels = tiny_model(("semantic",)).eval()
    batch = [random_batch(images=1, size=(61, 90))[0] | {"height": 122, "width": 180}]

    logits = model(batch)[0]["sem_seg"]

    assert logits.shape == (LEAVES, 122, 180)
    assert torch.equal(logits.argmax(dim=0), labels(batch)[0]["sem_seg"].argmax(dim=0))


def test_a_tokenizer_decodes_captions() -> None:
    model = tiny_model(("caption",)).eval()
    model.tokenizer = Tokenizer.train(["a red ball", "two blue boxes on grass"], vocab_size=60)
    result = model(random_batch()[:1])[0]
    assert result["caption"] == model.tokenizer.decode(result["caption_ids"])
    assert result["caption_score"] < 0


def test_losses_without_trainable_parameters_are_not_computed() -> None:
    """If only the caption head is trainable, the batch needs no strong view."""
    model = tiny_model().train()
    batch = random_batch()
    every = set(model(batch))
    for frozen in (model.backbone, model.detection_head, model.mask_head, model.semantic_head):
        frozen.requires_grad_(False)
    assert set(model([{k: v for k, v in s.items() if k != "image"} for s in batch])) == {
        "loss_caption"
    }
    assert set(model.eval().training_losses(batch)) == every
    model.train().detection_head.requires_grad_(True)
    assert "loss_cls" in model(batch)
    model.backbone.requires_grad_(True)
    assert set(model(batch)) == every


def test_results_of_half_precision_are_in_single_precision() -> None:
    model = deploy(tiny_model(TASKS, "TEST.PRECISION", "bf16"))
    seen: list[torch.dtype] = []
    model.backbone.register_forward_hook(lambda *call: seen.append(call[2]["p3"].dtype))
    batch = random_batch(images=1)
    half = model(batch)[0]
    assert seen == [torch.bfloat16]
    model.precision = "fp32"
    single = model(batch)[0]
    assert half["instances"].scores.dtype == torch.float32
    assert half["instances"].pred_boxes.tensor.dtype == torch.float32
    best = [result["instances"].scores[:10] for result in (half, single)]
    torch.testing.assert_close(*best, atol=0.02, rtol=0.1)
    with pytest.raises(ValueError, match=r"^TEST\.PRECISION must be one of fp32, bf16, not fp16"):
        tiny_model(TASKS, "TEST.PRECISION", "fp16")


def test_nested_outputs_are_converted() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    outputs = RawOutputs((half, None), [half], torch.ones(1, dtype=torch.int64), {"a": half}, {})
    found = in_float32(outputs)
    assert isinstance(found, RawOutputs)
    tensors = [found.detection[0], found.mask[0], found.caption["a"]]
    assert [tensor.dtype for tensor in tensors] == 3 * [torch.float32]
    assert found.semantic is not None
    assert found.semantic.dtype == torch.int64
