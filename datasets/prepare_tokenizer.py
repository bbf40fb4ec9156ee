"""Train the caption vocabulary on the captions of the training images.

    python datasets/prepare_tokenizer.py --output datasets/coco/tokenizer.model \\
        --captions datasets/coco/annotations/captions_train2017.json

A file is COCO's captions JSON, Karpathy's dataset_coco.json (its splits "train" and "restval" are
read), or a text file with one caption per line; each may be compressed (.gz).
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from yolor_d2.tokenizer import Tokenizer

LONG_CAPTION = 40  # tokens, with begin and end: TOKENIZER.MAX_TOKENS of the configs
KARPATHY_TRAINING_SPLITS = ("train", "restval")


def read_captions(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        if ".json" in path.suffixes:
            return list(json_captions(json.load(file), path))
        return file.read().splitlines()


def json_captions(content: Any, path: Path) -> Iterable[str]:
    try:
        if "annotations" in content:
            return [annotation["caption"] for annotation in content["annotations"]]
        return [
            sentence["raw"]
            for image in content["images"]
            if image["split"] in KARPATHY_TRAINING_SPLITS
            for sentence in image["sentences"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: neither COCO captions nor Karpathy's splits ({error!r})"
        ) from None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, nargs="+", metavar="FILE", required=True)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", required=True, help="the .model file"
    )
    parser.add_argument("--vocab-size", type=int, default=8000, help="an upper limit")
    args = parser.parse_args(argv)
    try:
        captions = [caption for path in args.captions for caption in read_captions(path)]
        tokenizer = Tokenizer.train(captions, vocab_size=args.vocab_size)
        tokenizer.save(args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    lengths = [len(tokenizer.encode(caption)) for caption in captions if caption.strip()]
    long = sum(length > LONG_CAPTION for length in lengths) / len(lengths)
    print(f"{args.output}: {len(tokenizer)} pieces from {len(lengths)} captions")
    print(f"{sum(lengths) / len(lengths) - 2:.2f} tokens per caption, without begin and end")
    print(f"{long:.3%} of the captions have more than {LONG_CAPTION} tokens, with begin and end")


if __name__ == "__main__":
    main()
