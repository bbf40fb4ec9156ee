"""The console script `yolor-d2`, which runs the programs of yolor_d2.

It is outside the package, which takes seconds to import, so that its help is immediate.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

SUMMARIES = {
    "demo": "train all tasks on toy scenes within minutes, evaluate, draw the results",
    "train": "train on your data (--data) or with a configuration (--config-file)",
    "eval": "evaluate a checkpoint or an exported file on test sets or your data (--data)",
    "predict": "predict on images, folders, videos or cameras; draw the results and write JSON",
    "label": "label images with a network; train --data reads the labels",
    "export": "export a network to ONNX, OpenVINO, TorchScript or torch.export",
    "check-data": "find damaged files and wrong annotations in a data set",
    "info": "count a network's parameters and GFLOPs",
    "benchmark": "measure the speed of data loading, networks and evaluation (checkout only)",
    "web": "serve a web page for predictions",
    "doctor": "check versions, devices and optional packages, and run a small network",
    "report": "pack versions, configuration, logs and metrics of a run, for an issue",
    "completion": "print a completion script for your shell",
}
EXAMPLES = {
    "demo": "yolor-d2 demo --minutes 5",
    "train": "yolor-d2 train --data photos --output output/photos",
    "eval": "yolor-d2 eval --weights output/photos/model_final.pth --data photos",
    "predict": "yolor-d2 predict --weights model_final.pth --input street.jpg --output predictions",
    "label": "yolor-d2 label photos --weights model_final.pth --output labeled",
    "export": "yolor-d2 export --weights model_final.pth --output exported",
    "check-data": "yolor-d2 check-data photos",
    "info": "yolor-d2 info --config-file COCO/yolor_elan_mtl.yaml",
    "benchmark": "yolor-d2 benchmark model",
    "web": "yolor-d2 web --weights model_final.pth",
    "doctor": "yolor-d2 doctor",
    "report": "yolor-d2 report output/photos",
    "completion": "yolor-d2 completion bash",
}
MODULES = {
    "demo": "toy_demo",
    "train": "train",
    "eval": "evaluate",
    "predict": "predict",
    "label": "label",
    "export": "export",
    "check-data": "check_data",
    "info": "model_info",
    "benchmark": "benchmark",
    "web": "web",
    "doctor": "doctor",
    "report": "report",
    "completion": "completion",
}
OTHER_WAY = {"train": "--data", "eval": "--weights"}  # flags that choose a configuration
WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one program; returns the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else WRONG_USE
    if name == "--version":
        print(f"yolor-d2 {version()}")
        return 0
    if name not in SUMMARIES:
        near = difflib.get_close_matches(name, SUMMARIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; commands: {', '.join(SUMMARIES)}"
        print(f"yolor-d2: unknown command {name}{hint}", file=sys.stderr)
        return WRONG_USE
    sys.argv = [f"yolor-d2 {name}", *rest]  # shown in help, errors and checkpoints
    return run_training(name, rest) if has_configuration(name, rest) else run_tool(name, rest)


def version() -> str:
    """The version of the package, which is not imported."""
    spec = importlib.util.find_spec("yolor_d2")
    assert spec is not None
    assert spec.origin is not None
    lines = Path(spec.origin).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("__version__")]
    return line.split('"')[1]


def usage() -> str:
    lines = []
    for name, summary in SUMMARIES.items():
        lines += [f"  {name:<12}{summary}", f"{'':<14}{EXAMPLES[name]}"]
    last = "yolor-d2 COMMAND --help shows the flags of a command; yolor-d2 --version"
    return "\n".join(["usage: yolor-d2 COMMAND ...", "", *lines, "", last])


def has_configuration(name: str, arguments: Sequence[str]) -> bool:
    """Whether `train` or `eval` gets a configuration file, as train_net.py does."""
    flags = {word.partition("=")[0] for word in arguments}
    return name in OTHER_WAY and "--config-file" in flags and OTHER_WAY[name] not in flags


def run_training(name: str, arguments: Sequence[str]) -> int:
    """Run train_net.py's main."""
    from yolor_d2.engine.launch.arguments import argument_parser
    from yolor_d2.engine.launch.processes import launch
    from yolor_d2.engine.main import main as train_or_evaluate

    flags = ["--eval-only"] if name == "eval" else []
    launch(train_or_evaluate, argument_parser().parse_args([*flags, *arguments]))
    return 0


def run_tool(name: str, arguments: Sequence[str]) -> int:
    """Run the main of a module of yolor_d2.tools."""
    module = f"yolor_d2.tools.{MODULES[name]}"
    tool = load_alone(module) if name == "doctor" else importlib.import_module(module)
    return tool.main(arguments) or 0


def load_alone(name: str) -> ModuleType:
    """Load a module without its package, which may lack what it needs."""
    package, *path = name.split(".")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent.joinpath(*path).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(path[-1], file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path[-1]] = module  # classes look up their module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
