"""Predict on a folder in batches, and write a line of CSV for each object.

python examples/predict_folder.py model_final.pth photos objects.csv
"""

import csv
import sys

from yolor_d2 import Predictor

COLUMNS = ("file", "class", "score", "x", "y", "width", "height")


def main(weights: str, folder: str, output: str) -> None:
    predictor = Predictor(weights, score_threshold=0.3, batch_size=16)
    unreadable = []
    with open(output, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for prediction in predictor(folder, on_error=unreadable.append):
            for found in prediction.to_json()["instances"]:
                score = f"{found['score']:.3f}"
                box = [f"{value:.1f}" for value in found["bbox"]]
                writer.writerow([prediction.source, found["category_name"], score, *box])
    for error in unreadable:
        print("not read:", error, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
