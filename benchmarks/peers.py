"""Peers: detectors of other packages, trained from scratch on the same images, and scored alike

All networks learn boxes and masks ("ours-four-tasks" also the semantic map and captions) and are
scored by our evaluator. Ours are trained with the recipe of the demo, networks of ultralytics by
its own trainer with its recipe, or ("tuned") with AdamW and without mosaics, which is better for
few epochs; they need an environment with ultralytics. Mask R-CNN gets images in random order,
resized and flipped at random, and SGD with a constant learning rate after a warm-up.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.data.samplers import TrainingSampler
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from yolor_d2.engine.setup import seed_everything
from yolor_d2.evaluation import build_evaluator
from yolor_d2.model_zoo import load_config
from yolor_d2.tools.options import positive

from .data_peer import prepare
from .model_setting import Result, Table, million_parameters
from .peer_ours import OURS, RECIPE
from .peer_ours import train as train_ours
from .peer_torchvision import TorchvisionMaskRCNN
from .peer_ultralytics import RECIPES
from .peer_ultralytics import train as train_ultralytics
from .printing import print_result
from .trained import Trained

SCRATCH = "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn.yaml"
ANCHORS = (8, 16, 32, 64, 128)  # pixels: one size for each of five maps, for small images
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.02, 0.9, 1e-4  # of both packages, for 16 images
WARMUP = 100  # steps
ASPECT = 0.75  # height / width of most images; longer ones are limited by the width

Batch = Sequence[Mapping[str, Any]]


class Peer(NamedTuple):
    """A network with detectron2's interface, and its optimizer.

    Attributes:
        model: with losses in training mode and predictions in evaluation mode.
        optimizer: of its parameters; the learning rate has a linear warm-up.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known, default = [*OWN_TRAINERS, *PEERS], [*OURS, *PEERS]
    parser.add_argument(
        "--peers", nargs="+", choices=known, default=default, help=f"({' '.join(default)})"
    )
    parser.add_argument("--train", default="toy_scenes_train", help="data set (toy_scenes_train)")
    parser.add_argument("--test", default="toy_scenes_val", help="data set (toy_scenes_val)")
    parser.add_argument("--size", type=positive, default=96, help="width of the images (96)")
    parser.add_argument("--batch", type=positive, default=16, help="images a step (16)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (1)")
    parser.add_argument("--images", type=positive, required=True, help="that each network sees")
    parser.add_argument(
        "--minutes", type=float, help="of CPU time, after which the training of Mask R-CNN ends"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one network after the other; print a table."""
    torch.set_num_threads(args.threads)
    with TemporaryDirectory() as folder:
        if not RECIPES.keys().isdisjoint(args.peers) and prepare(Path(folder, "settings")) is None:
            raise SystemExit(2)  # the reason has been printed
        rows = {name: measure(name, args, Path(folder, name)) for name in args.peers}
    title = f"trained from scratch, {args.size} px, seed {args.seed}"
    print_result(Result([Table(title, rows)], []))
    return {"title": title, "rows": rows}


def measure(name: str, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Train a network, evaluate it, and return the row of the table.

    Args:
        name: of the network.
        args: of the command.
        folder: for the files of its training.
    """
    if name in PEERS:
        trained = train_peer(name, args)
    else:
        trained = OWN_TRAINERS[name](
            name,
            data_set=args.train,
            size=args.size,
            batch=args.batch,
            images=args.images,
            seed=args.seed,
            work=folder,
        )
    scores = evaluate(trained.model, args.test, size=args.size)
    row = {
        "M parameters": trained.million_parameters,
        "images seen": float(trained.images),
        "CPU minutes": trained.seconds / 60,
        "box AP": scores["bbox"]["AP"],
        "mask AP": scores["segm"]["AP"],
    }
    print(f"{name}: {', '.join(f'{key} {value:.1f}' for key, value in row.items())}", flush=True)
    return row


def train_peer(name: str, args: argparse.Namespace) -> Trained:
    """Train a network of PEERS."""
    seed_everything(args.seed)
    classes = len(MetadataCatalog.get(args.train).thing_classes)
    peer = PEERS[name](classes=classes, size=args.size)
    loader = train_loader(args.train, size=args.size, batch=args.batch, seed=args.seed)
    with EventStorage():  # detectron2's heads log into it
        steps, seconds = train(
            peer,
            loader,
            steps=max(args.images // args.batch, 1),
            seconds=None if args.minutes is None else 60 * args.minutes,
        )
    parameters = million_parameters(peer.model)
    return Trained(peer.model.eval(), steps * args.batch, seconds, parameters)


def train(
    peer: Peer, loader: Iterable[Batch], *, steps: int | None, seconds: float | None
) -> tuple[int, float]:
    """Train for a number of steps or a CPU time; return both.

    The CPU time includes loading the images.
    """
    peer.model.train()
    rates = [group["lr"] for group in peer.optimizer.param_groups]
    done = 0
    started = time.process_time()
    for batch in islice(loader, steps):
        for group, rate in zip(peer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min((done + 1) / WARMUP, 1.0)
        loss = torch.stack(list(peer.model(batch).values())).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of step {done + 1} is not finite")
        peer.optimizer.zero_grad()
        loss.backward()
        peer.optimizer.step()
        done += 1
        if seconds is not None and time.process_time() - started >= seconds:
            break
    return done, time.process_time() - started


def evaluate(model: nn.Module, name: str, *, size: int) -> dict[str, Any]:
    """Box and mask metrics of a network on a data set, by our evaluator."""
    cfg = load_config(RECIPE, OURS["ours"])
    mapper = DatasetMapper(is_train=False, augmentations=[resize(size)], image_format="RGB")
    records = get_detection_dataset_dicts(name, filter_empty=False)
    loader = build_detection_test_loader(records, mapper=mapper)
    with TemporaryDirectory() as folder:
        return inference_on_dataset(model, loader, build_evaluator(cfg, name, folder))


def train_loader(name: str, *, size: int, batch: int, seed: int) -> Iterable[Batch]:
    """Endless batches of images with boxes and masks, in an order that follows from the seed."""
    records = get_detection_dataset_dicts(name)  # torchvision's network needs objects
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[resize(size), T.RandomFlip()],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    return build_detection_train_loader(
        records,
        mapper=mapper,
        sampler=TrainingSampler(len(records), seed=seed),
        total_batch_size=batch,
        aspect_ratio_grouping=False,
        num_workers=0,
    )


def resize(size: int) -> T.Augmentation:
    return T.ResizeShortestEdge(round(ASPECT * size), max_size=size)


def detectron2_peer(*, classes: int, size: int) -> Peer:
    """Mask R-CNN R50-FPN with group norm, detectron2's configuration for random weights."""
    cfg: CfgNode = model_zoo.get_config(SCRATCH)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[anchor] for anchor in ANCHORS]
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    model = build_model(cfg)
    return Peer(model, sgd(model))


def torchvision_peer(*, classes: int, size: int) -> Peer:
    """Mask R-CNN R50-FPN of torchvision."""
    model = TorchvisionMaskRCNN(classes=classes, size=size, anchors=ANCHORS)
    return Peer(model, sgd(model))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )


PEERS: dict[str, Callable[..., Peer]] = {
    "detectron2": detectron2_peer,
    "torchvision": torchvision_peer,
}
OWN_TRAINERS: dict[str, Callable[..., Trained]] = {
    **dict.fromkeys(OURS, train_ours),
    **dict.fromkeys(RECIPES, train_ultralytics),
}
