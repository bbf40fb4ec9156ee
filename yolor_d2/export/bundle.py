"""A folder with an exported network: graphs, model.json, tokenizer, and runner.py."""

import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..data import MultiTaskMapper
from ..data.catalog.class_tables import describe_classes
from ..data.loading.build import make_test_loader
from ..errors import ExportError, PackageError
from ..inference.loading import Network
from ..letterbox import PAD_VALUE, pad_images
from ..modeling.meta_arch import YOLOR
from .graphs import SUFFIXES, VISION, Part, cache_shape, open_graph, parts_of, write_graph
from .parity import Difference, compare

MANIFEST, TOKENIZER = "model.json", "tokenizer.model"
RUNNER = Path(__file__).parent / "runner"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
REQUIRED_PACKAGES = {"onnx": ONNX_PACKAGES, "openvino": (*ONNX_PACKAGES, "openvino")}
RUN_BY_RUNNER = tuple(REQUIRED_PACKAGES)  # the other formats are for PyTorch
BATCHES = (1, 2)
CALIBRATION_IMAGES = 100

Facts = dict[str, Any]
Feeds = Mapping[str, np.ndarray]


class Form(NamedTuple):
    """What a network is exported as.

    Attributes:
        format: a key of SUFFIXES.
        precision: of the graph "vision"; captions are decoded in float32.
        end_to_end: whether the results on the image are computed in the graph.
    """

    format: str = "onnx"
    precision: str = "fp32"
    end_to_end: bool = False

    def check(self) -> None:
        """Raise a ValueError for options that exclude each other, or for missing packages."""
        missing = [name for name in REQUIRED_PACKAGES.get(self.format, ()) if not find_spec(name)]
        if missing:
            extra = "openvino" if missing == ["openvino"] else "export"
            names = ", ".join(missing)
            raise PackageError(
                f"--format {self.format} needs {names}: pip install 'yolor_d2[{extra}]'"
            )
        if self.format not in RUN_BY_RUNNER and (self.end_to_end or self.precision != "fp32"):
            options = "--end-to-end, --fp16 and --int8 are"
            raise ExportError(f"{options} for {' and '.join(RUN_BY_RUNNER)}, not {self.format}")


def export(
    network: Network,
    *,
    weights: str,
    folder: Path,
    form: Form = Form(),  # noqa: B008  (immutable)
    sizes: Sequence[tuple[int, int]],
    calibration: Iterable[Feeds] = (),
    on_write: Callable[[Path], object] = lambda path: None,
) -> list[Difference]:
    """Write a network into a folder, and compare the written graphs with it.

    The raw outputs of float32 graphs are compared, before post-processing is appended or "vision"
    is converted to another precision.

    Args:
        network: the network, on the CPU.
        weights: file of its weights, named in model.json.
        folder: an existing output folder.
        form: format, precision and extent of the graphs.
        sizes: heights and widths of the canvases to compare on.
        calibration: inputs of "vision" for int8, one for each image.
        on_write: called with the path of each graph before it is written.
    """
    # Its warnings are about code of yolor_d2 and PyTorch, not the user's.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model = network.model
    kind = "onnx" if form.format in RUN_BY_RUNNER else form.format
    parts = parts_of(model)
    files = {name: f"{name}{SUFFIXES[kind]}" for name in parts}
    for name, part in parts.items():
        on_write(folder / f"{name}{SUFFIXES[form.format]}")
        write_graph(part, folder / files[name], kind)
        if form.format == "openvino":
            to_openvino(folder / files[name])
    graphs = {
        name: open_graph(folder / f"{name}{SUFFIXES[form.format]}", part)
        for name, part in parts.items()
    }
    differences = compare(model, parts, graphs, sizes=sizes, batches=BATCHES)
    facts = {"weights": Path(weights).name, **describe(network, parts, files)}
    _write_facts(folder, facts | Form(kind)._asdict())
    if model.tokenizer is not None:
        model.tokenizer.save(folder / TOKENIZER)
    if kind == "onnx":
        for path in RUNNER.glob("*.py"):
            shutil.copyfile(path, folder / path.name)
    if form != Form(kind):
        convert(folder, form, calibration)
    return differences


def convert(folder: Path, form: Form, calibration: Iterable[Feeds] = ()) -> None:
    """Convert a folder with ONNX graphs in float32, in place.

    Args:
        folder: of `export` with the default form.
        form: the new one.
        calibration: inputs of "vision" for int8, one for each image.
    """
    from .precision import kept_in_float32, quantize, to_half

    facts: Facts = json.loads((folder / MANIFEST).read_text("utf-8"))
    path = folder / facts["graphs"][VISION]
    if form.precision == "int8":
        quantize(path, calibration, outputs=form.format == "onnx")
    elif form.precision == "fp16" and form.format == "onnx":
        to_half(path)
    if form.precision != "fp32":
        facts["float32"] = kept_in_float32(form.precision)
    if form.end_to_end:
        from .end_to_end import append_results

        for key, names in append_results(path, facts).items():
            facts[key][VISION] = names
    if form.format == "openvino":
        for name, file in facts["graphs"].items():
            to_openvino(folder / file, half=form.precision == "fp16")
            (folder / file).unlink()
            facts["graphs"][name] = str(Path(file).with_suffix(SUFFIXES["openvino"]))
    _write_facts(folder, facts | form._asdict())


def _write_facts(folder: Path, facts: Facts) -> None:
    (folder / MANIFEST).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def to_openvino(path: Path, *, half: bool = False) -> None:
    """Convert an ONNX graph to OpenVINO's format beside it; `half` stores weights in float16."""
    import openvino

    graph = openvino.Core().read_model(path)  # `convert_model` would start telemetry
    openvino.save_model(graph, path.with_suffix(".xml"), compress_to_fp16=half)


def calibration_feeds(network: Network, name: str) -> Iterator[Feeds]:
    """Yield inputs of "vision" from images that are evenly spread over a data set."""
    model, recipe = network.model, network.recipe
    mapper = MultiTaskMapper(
        is_train=False,
        tasks=network.tasks,
        test_size=recipe.test_size,
        image_format=recipe.image_format,
    )
    with TemporaryDirectory() as folder:
        loader = make_test_loader(
            name,
            mapper=mapper,
            num_workers=0,
            output_dir=folder,
            max_images=CALIBRATION_IMAGES,
        )
        for (sample,) in loader:
            image = sample["image"]
            canvas, contents = pad_images([image], divisor=model.test_divisor, mode=model.pad)
            feeds = {"images": canvas.numpy()}
            if model.caption_head is not None:
                feeds["contents"] = np.array(contents, np.float32)
            yield feeds


def canvas_sizes(size: int, divisor: int) -> list[tuple[int, int]]:
    """Return heights and widths of three canvases: square, wide, and small and high.

    Args:
        size: long side of images.
        divisor: divisor of canvas sides.
    """
    whole, part, half = (-(-side // divisor) * divisor for side in (size, size * 3 // 4, size // 2))
    return [(whole, whole), (part, whole), (part, half)]


def describe(network: Network, parts: Mapping[str, Part], files: Mapping[str, str]) -> Facts:
    """Return the content of model.json, which runner.py reads.

    Args:
        network: the exported network.
        parts: its parts by name.
        files: their file names by the same names.
    """
    model, recipe = network.model, network.recipe
    facts: Facts = {
        "yolor_d2": __version__,
        **describe_classes([network.metadata]),
        "graphs": files,
        "inputs": {name: list(part.inputs) for name, part in parts.items()},
        "outputs": {name: part.outputs for name, part in parts.items()},
        "input": {
            "size": recipe.test_size,
            "divisor": model.test_divisor,
            "pad": model.pad,
            "pad_value": PAD_VALUE,
            "channels": recipe.image_format,
        },
    }
    detection, masks, merger = model.detection_head, model.mask_head, model.panoptic
    if detection is not None:
        facts["detection"] = {
            "score_threshold": detection.suppression.score_thresh,
            "nms_threshold": detection.suppression.nms_thresh,
            "multi_label": detection.suppression.multi_label,
            "pre_nms_topk": detection.suppression.pre_nms_topk,
            "detections_per_image": detection.suppression.detections_per_image,
        }
    if masks is not None:
        facts["mask"] = {"stride": masks.stride, "resolution": masks.resolution}
    if merger is not None:
        facts["panoptic"] = {
            "thing_to_panoptic": merger.thing_to_panoptic.tolist(),
            "leaf_to_panoptic": merger.leaf_to_panoptic.tolist(),
            "overlap_threshold": merger.overlap_threshold,
            "stuff_area_limit": merger.stuff_area_limit,
            "score_threshold": merger.score_threshold,
        }
    return facts | _describe_captions(model)


def _describe_captions(model: YOLOR) -> Facts:
    head = model.caption_head
    if head is None:
        return {}
    decoding = head.decoding
    options = (
        "beam_size",
        "max_tokens",
        "min_tokens",
        "length_penalty",
        "no_repeat_ngram",
        "finished_in_beam",
    )
    return {
        "caption": {
            **head.vocabulary._asdict(),
            **{name: getattr(decoding, name) for name in options},
        },
        "caption_cache": cache_shape(head),
        **({"tokenizer": TOKENIZER} if model.tokenizer is not None else {}),
    }


def load_runner() -> ModuleType:
    """Import runner.py, never the copy in an exported folder, which can come from strangers."""
    sys.path.insert(0, str(RUNNER))
    try:
        return importlib.import_module("runner")
    finally:
        sys.path.remove(str(RUNNER))
