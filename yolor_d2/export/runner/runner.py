"""Run an exported network on an image: boxes, masks, semantic and panoptic map, caption.

python runner.py IMAGE [--output result.json] [--model PATH] [--score-threshold S] [--threads N]

`yolor-d2 export` writes this file and the runner_*.py beside the graphs. They need NumPy, OpenCV,
onnxruntime or OpenVINO, by the format, and for captions sentencepiece.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from runner_captions import Search, beam_search, load_tokenizer
from runner_facts import MODEL_FILE, read_facts
from runner_graphs import RunnerError, open_graph
from runner_results import Content, boxes_to_image, detect, full_masks, labels_at, merge

Results = dict[str, Any]

# What graphs of other shapes than those in model.json lead to.
MISMATCH = (ValueError, LookupError, TypeError, RuntimeError, OverflowError)


class Runner:
    """An exported network.

    Attributes:
        facts: content of model.json; thresholds can be changed at any time, those of an end-to-end
            graph except for the score threshold are part of the graph.
        seconds: time of all images in "preprocess", "graph", "postprocess" and "captions".
    """

    def __init__(
        self, path: str | Path, *, threads: int = 0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """
        Args:
            path: folder with model.json and the files it names, or one of these files.
            threads: CPU threads; 0 is the runtime's default.
            clock: returns the time in seconds.
        """
        folder = Path(path)
        if not folder.is_dir():
            if not os.path.isfile(folder):
                raise RunnerError(f"{folder}: no such file or folder")
            folder = folder.parent
        self.facts: dict[str, Any] = read_facts(folder)
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._graphs = {
            name: open_graph(folder / file, threads=threads)
            for name, file in self.facts["graphs"].items()
        }
        self._tokenizer: Any = None
        if self.facts.get("tokenizer"):
            self._tokenizer = load_tokenizer(folder / self.facts["tokenizer"])

    def __call__(self, image: np.ndarray) -> Results:
        """Predict on an RGB image (height, width, 3) uint8.

        Returns:
            For each head of the network: "boxes" (D, 4) x0 y0 x1 y1, "scores" and "classes" (D,);
            "masks" (D, height, width) bool; "semantic" (height, width) labels; "panoptic" (height,
            width) segment ids and "segments"; "caption", "caption_ids" and "caption_score".
        """
        size = image.shape[:2]
        with self._timed("preprocess"):
            canvas, content = letterbox(image, **self.facts["input"])
        with self._timed("graph"):
            raw = self.run(
                "vision",
                images=canvas,
                contents=np.array([content], np.float32),
                size=np.array(size),
                score_threshold=self._score_threshold(),
            )
        with self._timed("postprocess"):
            if self.facts.get("end_to_end"):
                found = self._results(raw)
            else:
                found = self.postprocess(raw, content, canvas=canvas.shape[2:], size=size)
        with self._timed("captions"):
            return found | self.caption(raw)

    def run(self, graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run a graph; returns its outputs by name. Inputs that it does not have are ignored."""
        return self._graphs[graph](inputs)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = self._clock()
        yield
        self.seconds[part] += self._clock() - start

    def _score_threshold(self) -> np.ndarray:
        return np.array([self.facts.get("detection", {}).get("score_threshold", 0)], np.float32)

    def _results(self, raw: dict[str, np.ndarray]) -> Results:
        """Return the results among the outputs of an end-to-end graph."""
        names = ("boxes", "scores", "classes", "masks", "semantic", "panoptic")
        found = Results({name: raw[name] for name in names if name in raw})
        if "segments" in raw:
            rows = enumerate(raw["segments"].tolist(), 1)
            found["segments"] = [
                {"id": number, "category_id": category, "isthing": bool(is_thing)}
                | (
                    {"score": float(raw["scores"][index]), "instance_id": index}
                    if is_thing
                    else {"area": area}
                )
                for number, (category, is_thing, index, area) in rows
            ]
        return found

    def postprocess(
        self,
        raw: dict[str, np.ndarray],
        content: Content,
        *,
        canvas: Sequence[int],
        size: Sequence[int],
    ) -> Results:
        """Convert outputs of "vision" to objects and maps of the image.

        Args:
            raw: outputs by name, for one image.
            content: position of the image on the canvas.
            canvas, size: height and width of the canvas and of the image.
        """
        facts, found = self.facts, Results()
        height, width = size
        shared: Any = {"content": content, "height": height, "width": width}
        if "boxes" in raw:
            boxes, points, classes = detect(raw["boxes"][0], raw["scores"][0], **facts["detection"])
            placed = boxes_to_image(boxes, **shared)
            visible = (placed[:, 2:] > placed[:, :2]).all(axis=1)
            boxes, points, classes = boxes[visible], points[visible], classes[visible]
            scores = raw["scores"][0, points, classes]
            found |= {"boxes": placed[visible], "scores": scores, "classes": classes}
            if "prototypes" in raw:
                coefficients, prototypes = raw["coefficients"][0, points], raw["prototypes"][0]
                found["masks"] = full_masks(
                    coefficients, prototypes, boxes, **facts["mask"], **shared
                )
        if "semantic" in raw:
            found["semantic"] = labels_at(raw["semantic"][0], canvas=canvas, **shared)
        if "panoptic" in facts:
            found["panoptic"], found["segments"] = merge(
                found["masks"],
                found["scores"],
                found["classes"],
                found["semantic"],
                **facts["panoptic"],
            )
        return found

    def caption(self, raw: dict[str, np.ndarray]) -> Results:
        """Decode a caption from outputs of "vision"; empty without a caption head."""
        if "caption" not in self.facts:
            return {}
        search = Search(**self.facts["caption"])
        image = self.run("caption_start", **raw)
        layers, heads, width = self.facts["caption_cache"]
        past = np.zeros((layers, 2, 1, search.beam_size, heads, 0, width), np.float32)

        def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
            nonlocal past
            outputs = self.run(
                "caption_step", ids=tokens[None], past=past[:, :, :, parents], **image
            )
            past = outputs["longer_past"]
            return outputs["logits"][0]

        ids, score = beam_search(step, search)
        words = ids[1:-1] if ids[-1] == search.eos_id else ids[1:]
        text = None if self._tokenizer is None else self._tokenizer.decode(words)
        return {"caption": text, "caption_ids": ids, "caption_score": score}


def letterbox(
    image: np.ndarray, *, size: int, divisor: int, pad: str, pad_value: int, channels: str
) -> tuple[np.ndarray, Content]:
    """Resize an RGB image to a long side, and pad it.

    Args:
        image: (height, width, 3) uint8.
        size: long side after resizing.
        divisor: divisor of the canvas sides.
        pad: position of the image on the canvas, "corner" or "center".
        pad_value: value of padding pixels.
        channels: channel order of the network, "RGB" or "BGR".

    Returns:
        Canvas (1, 3, H, W) uint8, and the position of the image.
    """
    height, width = image.shape[:2]
    ratio = size / max(height, width)
    w, h = max(int(width * ratio), 1), max(int(height * ratio), 1)
    if (w, h) != (width, height):
        method = cv2.INTER_AREA if size < max(height, width) else cv2.INTER_LINEAR
        image = cv2.resize(image, (w, h), interpolation=method)
    canvas_h, canvas_w = (-(-side // divisor) * divisor for side in (h, w))
    # Of an odd difference, the smaller half is left and top.
    left, top = ((canvas_w - w) // 2, (canvas_h - h) // 2) if pad == "center" else (0, 0)
    canvas = np.full((1, 3, canvas_h, canvas_w), pad_value, np.uint8)
    planes = image.transpose(2, 0, 1)
    canvas[0, :, top : top + h, left : left + w] = planes if channels == "RGB" else planes[::-1]
    return canvas, Content(left, top, w, h)


def to_json(found: Results, facts: dict[str, Any]) -> Results:
    """Return plain data with the keys of `yolor-d2 predict`; masks are uncompressed run lengths.

    Args:
        found: result of a runner.
        facts: content of model.json, which has the classes.
    """
    plain: Results = {}
    if "boxes" in found:
        sides = np.hstack([found["boxes"][:, :2], found["boxes"][:, 2:] - found["boxes"][:, :2]])
        columns = (found["classes"].tolist(), sides.tolist(), found["scores"].tolist())
        plain["instances"] = [
            {**_category(facts, "thing", index), "bbox": box, "score": score}
            for index, box, score in zip(*columns, strict=True)
        ]
        for instance, mask in zip(plain["instances"], found.get("masks", ()), strict=False):
            instance["segmentation"] = run_lengths(mask)
    if "segments" in found:
        plain["segments_info"] = [
            _segment(facts, segment, found["panoptic"]) for segment in found["segments"]
        ]
    if "semantic" in found:
        plain["sem_seg"] = [
            {**_category(facts, "stuff", index), **_area(found["semantic"] == index)}
            for index in np.unique(found["semantic"]).tolist()
        ]
    return plain | {key: found[key] for key in found if key.startswith("caption")}


def _segment(facts: dict[str, Any], segment: Results, ids: np.ndarray) -> Results:
    # Without panoptic classes, category ids are class indices of the heads.
    has_table = "panoptic_classes" in facts["classes"]
    kind = "panoptic" if has_table else "thing" if segment["isthing"] else "stuff"
    return {
        "id": segment["id"],
        **_category(facts, kind, segment["category_id"]),
        "isthing": int(segment["isthing"]),
        "iscrowd": 0,
        **({"score": segment["score"]} if "score" in segment else {}),
        **_area(ids == segment["id"]),
    }


def _category(facts: dict[str, Any], kind: str, index: int) -> Results:
    """Return the id and name of a class, as in the data set if known."""
    names, numbers = (facts[key].get(f"{kind}_classes", ()) for key in ("classes", "class_ids"))
    return {
        "category_id": numbers[index] if index < len(numbers) else index,
        "category_name": names[index] if index < len(names) else str(index),
    }


def _area(mask: np.ndarray) -> Results:
    """Return the area, bounding box and run lengths of a mask (height, width)."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return {
        "area": int(mask.sum()),
        "bbox": [float(side) for side in (x, y, width, height)],
        "segmentation": run_lengths(mask),
    }


def run_lengths(mask: np.ndarray) -> Results:
    """Return COCO's run lengths, down the columns, of alternately 0 and 1."""
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(changes, prepend=0, append=mask.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def read_image(path: str) -> np.ndarray | None:
    """Return an image file as BGR (height, width, 3), with its EXIF rotation; None if damaged."""
    try:
        data = np.fromfile(path, np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        return None


def fail(problem: object, code: str) -> int:
    """Print a problem, with the code that yolor_d2 gives it; returns the exit code."""
    page = f"docs/troubleshooting.md#{code.lower()}"
    line = " ".join(str(problem).splitlines())
    print(f"runner: {line} [{code}: {page}]", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the results for an image; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON file; default: standard output"
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(__file__).parent,
        metavar="PATH",
        help="folder of the exported network, or a graph in it; default: the runner's",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.25,
        metavar="S",
        help="score threshold of objects (0.25)",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    args = parser.parse_args(argv)
    if not 0 <= args.score_threshold <= 1:
        parser.error("--score-threshold must be between 0 and 1")
    image = read_image(args.image)
    if image is None:
        return fail(f"{args.image} cannot be read as an image", "IMAGE")
    try:
        runner = Runner(args.model, threads=args.threads)
    except ImportError as error:
        return fail(error, "PACKAGE")
    except (OSError, ValueError, RuntimeError) as error:
        return fail(error, RunnerError.code)
    if "detection" in runner.facts:
        runner.facts["detection"]["score_threshold"] = args.score_threshold
    height, width = image.shape[:2]
    plain = {"file_name": args.image, "width": width, "height": height}
    try:
        found = to_json(runner(np.ascontiguousarray(image[:, :, ::-1])), runner.facts)
        text = json.dumps(plain | found, allow_nan=False) + "\n"
    except MISMATCH as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        message = f"{args.model}: {MODEL_FILE} does not fit the graphs: {reason}"
        return fail(message, RunnerError.code)
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        args.output.write_text(text, encoding="utf-8")
    except OSError as error:
        return fail(f"{args.output}: {error.strerror}", "FILE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
