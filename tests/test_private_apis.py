"""The code uses only public names of torch, torchvision, detectron2 and fvcore."""

import ast
from collections.abc import Iterator
from pathlib import Path

import detectron2.engine
import detectron2.evaluation
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
FILES = [file for name in ("yolor_d2", "benchmarks") for file in (ROOT / name).rglob("*.py")]
LIBRARIES = ("torch", "torchvision", "detectron2", "fvcore")
NAMEDTUPLE = {"_replace", "_asdict", "_fields", "_make"}  # public, in spite of the underscore
ALLOWED: set[str] = set()
# Classes whose private names could be overridden or accessed on instances.
CLASSES = (
    nn.Module,
    nn.BatchNorm2d,
    nn.MultiheadAttention,
    nn.parallel.DistributedDataParallel,
    torch.optim.AdamW,
    torch.utils.data.DataLoader,
    detectron2.engine.DefaultTrainer,
    detectron2.evaluation.DatasetEvaluators,
    detectron2.evaluation.COCOEvaluator,
)
# Set by their constructors, so that the classes do not have them.
INSTANCE_NAMES = {"_evaluators", "_modules", "_buffers", "_parameters", "_hooks"}
PRIVATE_NAMES = INSTANCE_NAMES | {
    name for each in CLASSES for name in dir(each) if name.startswith("_")
}
# `self._trainer` is how DefaultTrainer names the object that makes the steps.
PRIVATE_NAMES -= {"_trainer"}


def test_no_private_names() -> None:
    assert len(FILES) > 100
    found = {f"{file.relative_to(ROOT)}: {name}" for file in FILES for name in private_names(file)}
    assert found - ALLOWED == set()


def private_names(file: Path) -> Iterator[str]:
    """Private names of the libraries that a file imports, accesses or overrides."""
    tree = ast.parse(file.read_text())
    roots = set()  # names that the file binds to something of a library
    own = {  # attributes that classes in the file assign
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and first_name(node) == "self"
    }
    for node in ast.walk(tree):
        for module, name, bound in imported(node):
            if module.split(".")[0] in LIBRARIES:
                roots.add(bound)
                yield from filter(is_private, [*module.split("."), name])
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if first_name(node) in roots or node.attr in PRIVATE_NAMES - own:
                yield node.attr
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                is_function = isinstance(item, ast.FunctionDef)
                if is_function and is_private(item.name) and item.name in PRIVATE_NAMES:
                    yield item.name


def imported(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Module, name in it, and bound name of each import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, "", alias.asname or alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
        for alias in node.names:
            yield node.module, alias.name, alias.asname or alias.name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMEDTUPLE


def first_name(node: ast.Attribute) -> str:
    """The name that a chain of attributes starts with; "" if it starts with something else."""
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


def test_uses_are_found(tmp_path: Path) -> None:
    lines = [
        "import torch, torch._inductor",
        "from torch.nn.modules.batchnorm import _BatchNorm as B",
        "from torch._functorch import config",
        "from detectron2.utils import comm as c",
        "torch._foreach_norm([])",
        "c._LOCAL_PROCESS_GROUP",
        "evaluator._evaluators",
        "self._own, torch.__version__, named._replace(a=1)",
        "class Head(Module):",
        "    def _load_from_state_dict(self): ...",
    ]
    file = tmp_path / "uses.py"
    file.write_text("\n".join(lines))
    assert sorted(private_names(file)) == [
        *("_BatchNorm", "_LOCAL_PROCESS_GROUP", "_evaluators", "_foreach_norm"),
        *("_functorch", "_inductor", "_load_from_state_dict"),
    ]
