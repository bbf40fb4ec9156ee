"""Modules that have moved: their documented names, and those in saved LazyConfigs, still import.

`import yolor_d2.data.mapper` gives the module `yolor_d2.data.views.mapper` itself, so a class has
one identity under both names.
"""

import pydoc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import CodeType, ModuleType

MOVED = {
    "data.categories": "data.catalog.categories",
    "data.mapper": "data.views.mapper",
    "data.strong_view": "data.views.strong_view",
    "data.transforms": "data.views.transforms",
    "engine.arguments": "engine.launch.arguments",
    "engine.optimizer": "engine.optim.optimizer",
    "engine.schedule": "engine.optim.schedule",
    "evaluation.caption_metrics": "evaluation.caption.metrics",
    "evaluation.cider": "evaluation.caption.cider",
    "evaluation.ptb": "evaluation.caption.ptb",
    "modeling.assigner": "modeling.heads.detection.assigner",
    "modeling.decoding": "modeling.heads.caption.decoding",
    "modeling.decoding.options": "modeling.heads.caption.decoding.options",
    "modeling.heads.self_critical": "modeling.heads.caption.self_critical",
    "tools.demo": "tools.predict",
    "tools.true_results": "reports.ground_truth",
}


class MovedModule(ExecutionLoader):
    """Loads a module under its earlier name."""

    def __init__(self, name: str) -> None:
        self.name = name  # where it is now

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already; restore what the import system has just overwritten."""
        module.__spec__ = self.spec

    # `python -m` asks for these and runs the module anew.

    def get_code(self, fullname: str) -> CodeType | None:
        return self._loader().get_code(self.name)

    def get_filename(self, fullname: str) -> str:
        return self._loader().get_filename(self.name)

    def get_source(self, fullname: str) -> str | None:
        return self._loader().get_source(self.name)

    def _loader(self) -> ExecutionLoader:
        spec = find_spec(self.name)
        assert spec is not None
        assert isinstance(spec.loader, ExecutionLoader)
        return spec.loader


class MovedModuleFinder(MetaPathFinder):
    """Finds the modules of `MOVED`; every other import is left to Python's own finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        return spec_from_loader(fullname, MovedModule(f"{package}.{MOVED[name]}"))


def canonical_name(name: str) -> str:
    """One dotted name for a class or function that several modules offer."""
    found = pydoc.locate(name)
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else name


def install() -> None:
    """Let the earlier names be imported."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModuleFinder())
