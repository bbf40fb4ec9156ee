"""Write panoptic maps in COCO's format: a PNG for each image, and a JSON with the segments.

python examples/panoptic_png.py model_final.pth photos panoptic
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from yolor_d2 import Predictor


def main(weights: str, folder: str, output: str) -> None:
    pictures = Path(output)
    pictures.mkdir(parents=True, exist_ok=True)
    annotations = []
    for prediction in Predictor(weights)(folder):
        ids = prediction.panoptic_seg[0].numpy()  # (height, width); 0 is no segment
        blue_green_red = np.stack([ids >> 16, ids >> 8, ids], axis=2) & 255  # id = R + 256 G + ...
        name = Path(prediction.source).stem + ".png"
        cv2.imwrite(str(pictures / name), blue_green_red.astype(np.uint8))
        segments = [
            {key: segment[key] for key in ("id", "category_id", "area")}
            for segment in prediction.to_json()["segments_info"]
        ]
        annotations.append({"image_id": name, "file_name": name, "segments_info": segments})
    file = pictures.with_suffix(".json")
    file.write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    print(f"{len(annotations)} maps are in {pictures}, their segments in {file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
