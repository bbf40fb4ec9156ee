"""Inference time: forward pass and post-processing."""

from collections.abc import Mapping

import torch
from torch import Tensor

from yolor_d2.letterbox import Content
from yolor_d2.modeling.deploy import deploy, to_channels_last
from yolor_d2.modeling.meta_arch import YOLOR
from yolor_d2.modeling.results import Frame, place_instances, place_map

from .model_inputs import trained_outputs
from .model_peers import Peer
from .model_setting import (
    Aim,
    Result,
    Row,
    Setting,
    Table,
    million_parameters,
    random_images,
    speedup,
    time_in_turns,
    time_rows,
)
from .timing import Job

UNFUSED, FASTEST = "unfused, NCHW", "fused, channels_last"
MAX_TIME_SHARE = 0.85  # of FASTEST, relative to UNFUSED


@torch.no_grad()
def measure_forward(
    setting: Setting, peers: Mapping[str, Peer], *, compiled: bool = True
) -> Result:
    """Time from padded images to outputs of the detection, mask and semantic heads.

    Args:
        setting: of the benchmark.
        peers: other networks, measured at the first batch size.
        compiled: on a GPU, whether the compiled network is measured as well.
    """
    vision = setting.vision_model()
    deployed, fastest = deploy(vision), to_channels_last(deploy(vision))
    tables, aims = [], []
    for batch in setting.batches:
        images = random_images(batch, setting.size, setting.size, setting.device)
        jobs = _forward_jobs(setting, vision, deployed, fastest, images, compiled=compiled)
        parameters = {name: million_parameters(vision) for name in jobs}
        if batch == setting.batches[0]:
            for name, peer in peers.items():
                jobs[name] = peer.make_job(images)
                parameters[name] = peer.million_parameters
        times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
        rows: dict[str, Row] = {
            name: {"M parameters": parameters[name], **row}
            for name, row in time_rows(times, base=UNFUSED).items()
        }
        tables.append(Table(f"forward, {batch} x {setting.size} x {setting.size}", rows))
        if batch == setting.batches[0]:
            share = 1 / speedup(times[UNFUSED], times[FASTEST])
            text = f"fused + channels_last takes at most {MAX_TIME_SHARE:.0%} of unfused NCHW"
            aims.append(Aim(text, share, share <= MAX_TIME_SHARE))
    return Result(tables, aims)


def _forward_jobs(
    setting: Setting,
    vision: YOLOR,
    deployed: YOLOR,
    fastest: YOLOR,
    images: Tensor,
    *,
    compiled: bool,
) -> dict[str, Job]:
    channels_last_images = images.contiguous(memory_format=torch.channels_last)
    jobs: dict[str, Job] = {
        UNFUSED: lambda: vision.raw_outputs(images),
        "fused": lambda: deployed.raw_outputs(images),
        FASTEST: lambda: fastest.raw_outputs(channels_last_images),
    }
    if setting.on_gpu:

        def in_half_precision() -> None:
            with setting.half_precision():
                fastest.raw_outputs(channels_last_images)

        jobs[f"{FASTEST}, bf16"] = in_half_precision
    if setting.on_gpu and compiled:
        compiled_outputs = torch.compile(fastest.raw_outputs, dynamic=False)

        def compiled_in_half_precision() -> None:
            with setting.half_precision():
                compiled_outputs(channels_last_images)

        jobs[f"{FASTEST}, bf16, compiled"] = compiled_in_half_precision
    return jobs


@torch.no_grad()
def measure_results(setting: Setting) -> Result:
    """Time from head outputs of a 4 : 3 image to its results."""
    vision = setting.vision_model()
    unit = vision.canvas_divisor
    width, height = setting.size, -(-setting.size * 3 // 4 // unit) * unit
    frame = Frame(Content(0, 0, width, height), (height, width), height, width)
    raw = trained_outputs(vision.raw_outputs(random_images(1, height, width, setting.device)))
    head, masks = vision.detection_head, vision.mask_head
    points, semantic = raw.detection, raw.semantic
    assert head is not None
    assert masks is not None
    assert points is not None
    assert semantic is not None
    found = head.inference(points)[0]
    candidates = int((points.logits.sigmoid() > head.suppression.score_thresh).sum())

    def place(resolution: str, mask_format: str = "dense") -> Job:
        def job() -> None:
            masks.resolution, masks.mask_format = resolution, mask_format
            place_instances(found, frame, masks, raw.mask, image=0)

        return job

    jobs: dict[str, Job] = {
        "boxes, non-maximum suppression": lambda: head.inference(points),
        'masks, "input"': place("input"),
        'masks, "input", run lengths': place("input", "rle"),
        'masks, "fast"': place("fast"),
        "semantic map, labels": lambda: place_map(semantic[0], frame, full_logits=False),
        "semantic map, logits": lambda: place_map(semantic[0], frame, full_logits=True),
    }
    if vision.panoptic is not None:
        merger = vision.panoptic
        masks.resolution, masks.mask_format = "input", "dense"
        instances = place_instances(found, frame, masks, raw.mask, image=0)
        labels = place_map(semantic[0], frame, full_logits=False)
        jobs["panoptic map"] = lambda: merger(instances, labels)
    times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
    title = (
        f"results of one image, {width} x {height}: "
        f"{candidates} boxes above {head.suppression.score_thresh}, {len(found)} kept"
    )
    return Result([Table(title, time_rows(times))], [])
