"""Write an HTML page of evaluation results: best and worst images, mistakes and captions.

Reads the result files of an evaluation and runs no model.

python -m yolor_d2.tools.visualize_results --config-file FILE --results DIR --output DIR
    [--number N] [--score-threshold S] [KEY VALUE ...]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..data.formats.registration import register_configured
from ..engine.launch.arguments import import_modules
from ..model_zoo import load_config
from ..reports.album import read_results
from ..reports.html_page import write_page
from ..reports.mistakes import NOTE, caption_sections, object_sections
from .errors import one_line_errors
from .options import add_picture_options, add_score_threshold


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, required=True, help="OUTPUT_DIR/inference/<data set> of --eval-only"
    )
    add_picture_options(parser, number=8, counted="pictures per section")
    add_score_threshold(parser)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the best and worst results; returns the exit code."""
    args = make_parser().parse_args(arguments)
    import_modules(args.modules)
    cfg = load_config(args.config_file, args.opts)
    register_configured(cfg)
    album = read_results(args.results, cfg.DATASETS.TEST, threshold=args.score_threshold)
    sections = [*object_sections(album, args.number), *caption_sections(album, args.number)]
    path = write_page(
        args.output,
        title=f"Results on {album.dataset_name}",
        note=NOTE.format(threshold=args.score_threshold),
        sections=sections,
    )
    print(f"{sum(len(section.figures) for section in sections)} pictures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
