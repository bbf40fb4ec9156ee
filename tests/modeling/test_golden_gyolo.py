"""The whole network, trunk and four heads, against the published gyolo."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from yolor_d2.checkpoint.published import convert_state_dict
from yolor_d2.checkpoint.published.catalog import NETWORKS
from yolor_d2.model_zoo import get_config
from yolor_d2.modeling.deploy import deploy
from yolor_d2.modeling.meta_arch import YOLOR

from .factory import count_parameters
from .golden import golden_arrays, golden_input, manifest, reference_state_dict

TAG = "160x160"
SIZES = {"p3": (20, 20), "p4": (10, 10), "p5": (5, 5)}
VISION = (*(f"raw_{level}" for level in SIZES), "mask_coef", "proto", "semantic", "pred")
PIXELS = 2e-2  # tolerance of boxes in a float32 run
# The published number for inference; ours has no parameters for the positions, the unused gate and
# the bins of distances.
PARAMETERS = 33_526_477 - 33_024 - 131_328 - 16


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> YOLOR:
    """The network at full size with all golden parameters."""
    cfg = get_config("COCO/gyolo.yaml")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    state = reference_state_dict(shared_dir, "gyolo", TAG)
    result = model.load_state_dict(convert_state_dict(state, "gyolo"), strict=False)
    assert not result.unexpected_keys
    assert all(name.startswith("panoptic.") for name in result.missing_keys)
    return model.eval()


@torch.no_grad()
def outputs_of(model: YOLOR, sequence: Tensor) -> dict[str, Tensor]:
    """Outputs of the heads, in the published layout."""
    image = golden_input(160, 160).to(next(model.parameters()).dtype)
    features = model.extract(image * 255, model.in_features(frozenset(model.heads)))
    raw = model.raw_outputs(image * 255)
    points, masks = raw.detection, raw.mask
    joined = torch.cat([points.bins, points.logits], dim=-1).transpose(1, 2)  # (1, 144, A)
    levels = joined.split([height * width for height, width in SIZES.values()], dim=-1)
    outputs = {f"raw_{name}": level for name, level in zip(SIZES, levels, strict=True)}
    outputs["mask_coef"] = masks.coefficients.transpose(1, 2)
    outputs["proto"] = masks.prototypes
    outputs["semantic"] = model.semantic_head.class_maps(features)
    assert torch.equal(raw.semantic, outputs["semantic"][:, :171])
    first, last = model.detection_head.boxes(points).transpose(1, 2).chunk(2, dim=1)
    scores = points.logits.sigmoid().transpose(1, 2)
    outputs["pred"] = torch.cat(
        [(first + last) / 2, last - first, scores, outputs["mask_coef"]], dim=1
    )  # (1, 116, A)
    logits = model.caption_head.text_logits(raw.caption, sequence)
    outputs["caption_logprob"] = logits.log_softmax(dim=-1)  # (1, 12, 10202)
    return outputs


@pytest.mark.parametrize("is_deployed", [False, True])
def test_outputs_are_the_published_ones(
    published: YOLOR, shared_dir: Path, is_deployed: bool
) -> None:
    golden = golden_arrays(shared_dir, "gyolo")
    model = deploy(published) if is_deployed else published
    outputs = outputs_of(model, torch.from_numpy(golden["seq"]))
    for name in (*VISION, "caption_logprob"):
        found = outputs[name].flatten()[golden[f"{TAG}/idx/{name}"]]
        tolerance = PIXELS if name == "pred" else 1e-3
        np.testing.assert_allclose(found, golden[f"{TAG}/val/{name}"], atol=tolerance, rtol=0)
        figures = (outputs[name].mean(), outputs[name].std(correction=0), outputs[name].abs().max())
        np.testing.assert_allclose(figures, golden[f"{TAG}/stats/{name}"], atol=tolerance, rtol=0)


def test_double_precision_outputs_agree_to_nine_digits(published: YOLOR, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, "gyolo")
    double = copy.deepcopy(published).double()
    for model in (double, deploy(double)):
        outputs = outputs_of(model, torch.from_numpy(golden["seq"]))
        for name in VISION:
            found = outputs[name].flatten()[golden[f"{TAG}/idx/{name}"]]
            np.testing.assert_allclose(found, golden[f"{TAG}/val64/{name}"], atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_beam_search_finds_the_published_caption(published: YOLOR, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, "gyolo")
    for model in (published, deploy(published)):
        raw = model.raw_outputs(golden_input(160, 160) * 255)
        captions = model.caption_head.generate(raw.caption)
        assert captions.ids[0, 1:].tolist() == golden[f"{TAG}/beam_ids"][0].tolist()
        expected = golden[f"{TAG}/beam_logprob"].sum()
        assert captions.scores[0].item() == pytest.approx(expected, abs=1e-3)
        # Token by token as published, by teacher forcing.
        logits = model.caption_head.text_logits(raw.caption, captions.ids[:, :-1])
        found = logits.log_softmax(dim=2).gather(2, captions.ids[:, 1:, None])[..., 0]
        np.testing.assert_allclose(found, golden[f"{TAG}/beam_logprob"], atol=1e-4, rtol=0)


def test_every_published_name_is_used_or_dropped_for_a_reason(shared_dir: Path) -> None:
    network, entries = NETWORKS["gyolo"], manifest(shared_dir, "gyolo")
    used = network.names.keys()
    dropped = {name: network.reason_to_drop(name) for name in entries.keys() - used}

    assert used <= entries.keys()
    assert not any(network.reason_to_drop(name) for name in used)
    assert all(dropped.values())
    ours = [name for name in network.names.values() if name is not None]
    assert len(set(ours)) == len(ours)


def test_number_of_parameters(published: YOLOR) -> None:
    """Of inference; one-to-many branches only train."""
    trained_only = [
        getattr(published.detection_head, f"{branch}_{part}")
        for branch in ("box", "class")
        for part in ("towers", "predictors")
    ]
    count = count_parameters(published) - sum(map(count_parameters, trained_only))
    assert count == PARAMETERS
