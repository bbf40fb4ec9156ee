"""Write an HTML page of training samples: both views with their targets, and the annotations.

python -m yolor_d2.tools.visualize_data --config-file FILE --output DIR [--number N]
    [KEY VALUE ...]
"""

import argparse
import sys
from collections.abc import Sequence

from tqdm import tqdm

from ..data.formats.registration import register_configured
from ..engine.launch.arguments import import_modules
from ..model_zoo import load_config, naming_source
from ..reports.html_page import write_page
from ..reports.training_samples import NOTE, draw_samples
from .errors import one_line_errors
from .options import add_picture_options


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_picture_options(parser, number=8, counted="number of samples")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Draw samples of a configuration's training loader; returns the exit code."""
    args = make_parser().parse_args(arguments)
    import_modules(args.modules)
    cfg = load_config(args.config_file, args.opts)
    register_configured(cfg)
    cfg.OUTPUT_DIR = str(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    sections = tqdm(draw_samples(cfg, args.number), total=args.number)
    title = f"Training samples of {', '.join(cfg.DATASETS.TRAIN)}"
    with naming_source(args.config_file, args.opts):
        path = write_page(args.output, title=title, note=NOTE, sections=sections)
    print(f"{args.number} samples are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
