"""A page of what the network is fed: strong and weak views with all their targets.

Beside them stands what the data set knows of the sample's own image.

python -m yolor_d2.tools.visualize_data --config-file FILE --output DIR [--number N]
    [KEY VALUE ...]
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from yolor_d2.data import build_tokenizer, build_train_loader
from yolor_d2.data.errors import BadFileError
from yolor_d2.model_zoo import load_config
from yolor_d2.reports.ground_truth import record_image, true_result
from yolor_d2.reports.html_page import Figure, Section, write_page
from yolor_d2.tools.options import add_picture_options
from yolor_d2.visualization import draw_panels, draw_results, sample_pictures

NOTE = (
    "Samples of the training loader, with all that is learnt from them, and the annotations of the "
    "image that a sample is made of. Where a map has no colour, nothing is learnt."
)


def main(arguments: list[str] | None = None) -> int:
    """Draw samples of a configuration's training loader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_picture_options(parser, number=8, counted="how many samples")
    args = parser.parse_args(arguments)
    try:
        cfg = load_config(args.config_file, args.opts)
        cfg.OUTPUT_DIR = str(args.output)
        args.output.mkdir(parents=True, exist_ok=True)
        sections = tqdm(draw_samples(cfg, args.number), total=args.number)
        title = f"What the network sees of {', '.join(cfg.DATASETS.TRAIN)}"
        path = write_page(args.output, title=title, note=NOTE, sections=sections)
    except (ValueError, KeyError, OSError, BadFileError) as error:
        print(f"visualize_data: {error}", file=sys.stderr)
        return 2
    print(f"{args.number} samples are in {path}")
    return 0


def draw_samples(cfg: CfgNode, number: int) -> Iterator[Section]:
    """The first samples of the training loader, each with the annotations of its image."""
    if cfg.INPUT.DATASET_MAPPER_NAME != "multitask":
        raise ValueError("INPUT.DATASET_MAPPER_NAME must be multitask: other mappers have no views")
    tokenizer = build_tokenizer(cfg) if "caption" in cfg.MODEL.YOLOR.TASKS else None
    records = {
        record["file_name"]: (record, MetadataCatalog.get(name))
        for name in cfg.DATASETS.TRAIN
        for record in DatasetCatalog.get(name)
    }
    loader = build_train_loader(cfg, tokenizer=tokenizer)
    items = itertools.islice(itertools.chain.from_iterable(loader), number)
    for position, item in enumerate(items, start=1):
        record, metadata = records[item["file_name"]]
        views = sample_pictures(item, metadata, tokenizer, image_format=cfg.INPUT.FORMAT)
        image, truth = record_image(record), true_result(record)
        kinds = draw_panels(image, truth, metadata) or {
            "none": draw_results(image, truth, metadata, layers=("caption",))
        }
        pictures = views | {f"annotations: {kind}": picture for kind, picture in kinds.items()}
        figures = [Figure(picture, title) for title, picture in pictures.items()]
        yield Section(f"sample {position}: {Path(record['file_name']).name}", figures)


if __name__ == "__main__":
    sys.exit(main())
