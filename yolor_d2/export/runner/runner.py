"""What an exported network finds in an image: boxes, masks, semantic and panoptic map, a caption.

python runner.py IMAGE [--output result.json] [--model FOLDER] [--score-threshold S] [--threads N]

Stands alone, with the other two runner_*.py, beside the graphs that `python -m
yolor_d2.tools.export` wrote. Needs NumPy, OpenCV, onnxruntime and, for captions, sentencepiece.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from runner_captions import Search, beam_search
from runner_results import Content, boxes_to_image, detect, full_masks, labels_at, merge

Results = dict[str, Any]


class Runner:
    """An exported network, ready to run.

    Attributes:
        facts: what model.json says; thresholds and the like may be changed at any time.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0) -> None:
        """
        Args:
            folder: with model.json and the files that it names.
            threads: of the CPU; 0 leaves it to onnxruntime.
        """
        folder = Path(folder)
        self.facts: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._graphs = {
            name: onnxruntime.InferenceSession(folder / file, options)
            for name, file in self.facts["graphs"].items()
        }
        self._words: Any = None
        if self.facts.get("tokenizer"):
            from sentencepiece import SentencePieceProcessor

            self._words = SentencePieceProcessor(model_file=str(folder / self.facts["tokenizer"]))

    def __call__(self, image: np.ndarray) -> Results:
        """What is found in an RGB image (height, width, 3) uint8.

        Returns:
            As far as the network has it: "boxes" (D, 4) x0 y0 x1 y1, "scores" and "classes" (D,),
            "masks" (D, height, width) bool; "semantic" (height, width) labels; "panoptic" (height,
            width) ids and what their "segments" are; "caption", "caption_ids", "caption_score".
        """
        canvas, content = letterbox(image, **self.facts["input"])
        raw = self.run("vision", images=canvas, contents=np.array([content], np.float32))
        found = self.place(raw, content, canvas=canvas.shape[2:], size=image.shape[:2])
        return found | self.describe(raw)

    def run(self, graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """A graph's outputs by name. Inputs that the graph does not have are left out."""
        session = self._graphs[graph]
        feeds = {each.name: inputs[each.name] for each in session.get_inputs()}
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    def place(
        self,
        raw: dict[str, np.ndarray],
        content: Content,
        *,
        canvas: Sequence[int],
        size: Sequence[int],
    ) -> Results:
        """Objects and maps on an image, from what "vision" says of it alone.

        Args:
            raw: outputs by name.
            content: where the image lies on the canvas.
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

    def describe(self, raw: dict[str, np.ndarray]) -> Results:
        """The caption of the image that "vision" said this of, if it has visual tokens."""
        if "tokens" not in raw:
            return {}
        how = Search(**self.facts["caption"])
        image = self.run("caption_start", tokens=raw["tokens"], padding=raw["padding"])
        layers, heads, width = self.facts["caption_cache"]
        past = np.zeros((layers, 2, 1, how.beam_size, heads, 0, width), np.float32)

        def step(words: np.ndarray, parents: np.ndarray) -> np.ndarray:
            nonlocal past
            said = self.run("caption_step", ids=words[None], past=past[:, :, :, parents], **image)
            past = said["longer_past"]
            return said["logits"][0]

        ids, score = beam_search(step, how)
        text = None if self._words is None else self._words.decode(ids[1:-1])
        return {"caption": text, "caption_ids": ids, "caption_score": score}


def letterbox(
    image: np.ndarray, *, size: int, divisor: int, pad: str, pad_value: int, channels: str
) -> tuple[np.ndarray, Content]:
    """Bring an RGB image's long side to a size and pad it.

    Args:
        image: (height, width, 3) uint8.
        size: of the long side.
        divisor: of the canvas's sides.
        pad: where the image lies on the canvas, "corner" or "center".
        pad_value: of the pixels around it.
        channels: "RGB", or "BGR" for a network that wants them so.

    Returns:
        (1, 3, H, W) uint8, and where the image lies.
    """
    height, width = image.shape[:2]
    ratio = size / max(height, width)
    w, h = max(int(width * ratio), 1), max(int(height * ratio), 1)
    if (w, h) != (width, height):
        how = cv2.INTER_AREA if size < max(height, width) else cv2.INTER_LINEAR
        image = cv2.resize(image, (w, h), interpolation=how)
    canvas_h, canvas_w = (-(-side // divisor) * divisor for side in (h, w))
    # Of an odd difference the smaller half is at the left and at the top.
    left, top = ((canvas_w - w) // 2, (canvas_h - h) // 2) if pad == "center" else (0, 0)
    canvas = np.full((1, 3, canvas_h, canvas_w), pad_value, np.uint8)
    planes = image.transpose(2, 0, 1)
    canvas[0, :, top : top + h, left : left + w] = planes if channels == "RGB" else planes[::-1]
    return canvas, Content(left, top, w, h)


def to_json(found: Results, facts: dict[str, Any]) -> Results:
    """Plain data by the names of `yolor-d2 predict`; masks are COCO's uncompressed run lengths.

    Args:
        found: what a runner returned.
        facts: what model.json says, of which the classes count.
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
    # Without panoptic classes, segments have the numbers of the heads' classes.
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
    """A class in the data set's words, as far as they are known."""
    names, numbers = (facts[key].get(f"{kind}_classes", ()) for key in ("classes", "class_ids"))
    return {
        "category_id": numbers[index] if index < len(numbers) else index,
        "category_name": names[index] if index < len(names) else str(index),
    }


def _area(mask: np.ndarray) -> Results:
    """How many pixels a mask (height, width) has, its bounding box and its run lengths."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return {
        "area": int(mask.sum()),
        "bbox": [float(side) for side in (x, y, width, height)],
        "segmentation": run_lengths(mask),
    }


def run_lengths(mask: np.ndarray) -> Results:
    """COCO's run lengths: of 0, then of 1, and so on, down the columns."""
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(changes, prepend=0, append=mask.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found in an image; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it here instead")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    parser.add_argument(
        "--score-threshold", type=float, default=0.25, metavar="S", help="of objects (0.25)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the CPU")
    args = parser.parse_args(argv)
    image = cv2.imread(args.image, cv2.IMREAD_COLOR)
    if image is None:
        print(f"runner: {args.image} cannot be read as an image", file=sys.stderr)
        return 2
    try:
        runner = Runner(args.model, threads=args.threads)
    except FileNotFoundError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2
    if "detection" in runner.facts:
        runner.facts["detection"]["score_threshold"] = args.score_threshold
    found = runner(np.ascontiguousarray(image[:, :, ::-1]))
    height, width = image.shape[:2]
    plain = {"file_name": args.image, "width": width, "height": height}
    text = json.dumps(plain | to_json(found, runner.facts)) + "\n"
    if args.output is None:
        sys.stdout.write(text)
    else:
        args.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
