"""Draw predictions on test images below the annotations: objects, maps and captions.

python -m yolor_d2.tools.draw_predictions --config-file FILE --output DIR [--number N]
    [--score-threshold S] MODEL.WEIGHTS FILE [KEY VALUE ...]
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from ..data.formats.registration import register_configured
from ..engine.launch.arguments import import_modules
from ..model_zoo import load_config, naming_source
from ..reports.predictions import draw_test_set
from .errors import one_line_errors
from .options import add_picture_options, add_score_threshold


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_picture_options(parser, number=12, counted="number of images")
    add_score_threshold(parser)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Draw predictions on the first images of the test set; returns the exit code."""
    args = make_parser().parse_args(arguments)
    import_modules(args.modules)
    cfg = load_config(args.config_file, args.opts)
    register_configured(cfg)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.OUTPUT_DIR = str(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    with naming_source(args.config_file, args.opts):
        count = draw_test_set(cfg, number=args.number, threshold=args.score_threshold)
    print(f"{count} pictures are in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
