"""How fast things are on this machine.

python -m benchmarks data         the data pipeline, in samples per second of CPU time
python -m benchmarks model        the network, beside those of others
python -m benchmarks caption      captions, beside those of transformers
python -m benchmarks evaluation   scores of boxes and masks, beside pycocotools
python -m benchmarks pictures     the drawing of results, beside detectron2's
python -m benchmarks export       onnxruntime beside the network itself
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from . import caption as benchmark_caption
from . import data as benchmark_data
from . import evaluation as benchmark_evaluation
from . import export as benchmark_export
from . import model as benchmark_model
from . import pictures as benchmark_pictures
from .timing import machine_facts

COMMANDS = {
    "data": benchmark_data,
    "model": benchmark_model,
    "caption": benchmark_caption,
    "evaluation": benchmark_evaluation,
    "pictures": benchmark_pictures,
    "export": benchmark_export,
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
