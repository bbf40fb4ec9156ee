"""How fast things are on this machine.

python -m yolor_d2.tools.benchmark data         the data pipeline, in samples per second of CPU time
python -m yolor_d2.tools.benchmark model        the network, beside those of others
python -m yolor_d2.tools.benchmark caption      captions, beside those of transformers
python -m yolor_d2.tools.benchmark evaluation   scores of boxes and masks, beside pycocotools
python -m yolor_d2.tools.benchmark pictures     the drawing of results, beside detectron2's
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from . import (
    benchmark_caption,
    benchmark_data,
    benchmark_evaluation,
    benchmark_model,
    benchmark_pictures,
)
from .benchmark_timing import machine_facts

COMMANDS = {
    "data": benchmark_data,
    "model": benchmark_model,
    "caption": benchmark_caption,
    "evaluation": benchmark_evaluation,
    "pictures": benchmark_pictures,
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.add_argument(
            "--json", type=Path, metavar="FILE", help="write all numbers and facts of the machine"
        )
        command.set_defaults(name=name, run=module.run)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    results = {"machine": machine_facts(), args.name: args.run(args)}
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\nAll numbers are in {args.json}")


if __name__ == "__main__":
    main()
