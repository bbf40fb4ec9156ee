"""Benchmarks of yolor_d2 and comparable packages on this machine.

python -m benchmarks data         data pipeline, in samples per second of CPU time
python -m benchmarks model        network, compared with other networks
python -m benchmarks caption      caption decoding, compared with transformers
python -m benchmarks evaluation   metrics of boxes and masks, compared with pycocotools
python -m benchmarks pictures     drawing of results, compared with detectron2
python -m benchmarks export       exported network in onnxruntime, compared with PyTorch
python -m benchmarks gpu          checks and all measurements of a GPU, within ten minutes
python -m benchmarks experiments  what the network learns: the paper's tables over several seeds
python -m benchmarks peers        what it learns beside networks of other packages
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from yolor_d2.engine.launch.arguments import add_import, import_modules

from . import caption, data, evaluation, experiments, export, gpu, model, peers, pictures
from .timing import machine_facts

COMMANDS = {
    "data": data,
    "model": model,
    "caption": caption,
    "evaluation": evaluation,
    "pictures": pictures,
    "export": export,
    "gpu": gpu,
    "experiments": experiments,
    "peers": peers,
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
        add_import(command)
        command.add_argument(
            "--json", type=Path, metavar="FILE", help="write all results and the machine's details"
        )
        command.set_defaults(name=name, run=module.run)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    import_modules(args.modules)
    results = {"machine": machine_facts(), args.name: args.run(args)}
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\nResults are written to {args.json}")


if __name__ == "__main__":
    main()
