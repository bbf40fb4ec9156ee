"""The console script `yolor-d2`: every program of yolor_d2 by one name, with the programs' flags.

It stands outside the package, which takes seconds to import: its help comes at once.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

SUMMARIES = {
    "train": "train what a configuration describes (train_net.py)",
    "eval": "evaluate a checkpoint on the configuration's test sets (train_net.py --eval-only)",
    "predict": "draw and write down what a network says of images, folders, videos, cameras",
    "export": "write a network as a graph for other runtimes",
    "check-data": "look for damage and contradictions in a data set",
    "info": "count a network's parameters and GFLOPs",
    "benchmark": "measure how fast data, network and evaluation are here",
    "web": "show a network in the browser",
}
MODULES = {
    "predict": "predict",
    "export": "export",
    "check-data": "check_data",
    "info": "model_info",
    "benchmark": "benchmark",
    "web": "web",
}
WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one program; the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else WRONG_USE
    if name not in SUMMARIES:
        near = difflib.get_close_matches(name, SUMMARIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f": there is {', '.join(SUMMARIES)}"
        print(f"yolor-d2: there is no command {name}{hint}", file=sys.stderr)
        return WRONG_USE
    sys.argv = [f"yolor-d2 {name}", *rest]  # what help and checkpoints call it
    return run_training(name, rest) if name in ("train", "eval") else run_tool(name, rest)


def usage() -> str:
    lines = [f"  {name:<12}{summary}" for name, summary in SUMMARIES.items()]
    return "\n".join(
        ["usage: yolor-d2 COMMAND ...", "", *lines, "", "yolor-d2 COMMAND --help: its own flags"]
    )


def run_training(name: str, arguments: Sequence[str]) -> int:
    """What train_net.py does."""
    from yolor_d2.engine.launch.arguments import argument_parser
    from yolor_d2.engine.launch.processes import launch
    from yolor_d2.engine.main import main as train_or_evaluate

    flags = ["--eval-only"] if name == "eval" else []
    launch(train_or_evaluate, argument_parser().parse_args([*flags, *arguments]))
    return 0


def run_tool(name: str, arguments: Sequence[str]) -> int:
    """What `python -m yolor_d2.tools.<module>` does."""
    tool = importlib.import_module(f"yolor_d2.tools.{MODULES[name]}")
    return tool.main(arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
