"""Earlier names that still work: of modules, and of constructor arguments in LazyConfigs.

`import yolor_d2.data.mapper` gives the module `yolor_d2.data.views.mapper` itself, so a class has
one identity under both names. An argument that is now in a group, `caption_head.dim`, is moved to
`caption_head.sizes.dim` after a LazyConfig is loaded and after overrides are applied.
"""

import pydoc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

MOVED = {
    "checkpoint.foreign": "checkpoint.published",
    "data.categories": "data.catalog.categories",
    "data.errors": "errors",
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


class Group(NamedTuple):
    """Arguments of a class that are now fields of one argument."""

    target: str  # the class of that argument
    names: tuple[str, ...]  # of the earlier arguments
    fields: tuple[str, ...] = ()  # their names in the group; (): the same

    def renamed(self) -> dict[str, str]:
        """Names of fields by names of the earlier arguments."""
        return dict(zip(self.names, self.fields or self.names, strict=True))


CAPTION = "yolor_d2.modeling.heads.caption"
DETECTION = "yolor_d2.modeling.heads.detection"
GROUPED: dict[str, dict[str, Group]] = {
    f"{CAPTION}.head.TransformerCaptionHead": {
        "vocabulary": Group(
            f"{CAPTION}.options.VocabularyOptions",
            ("vocab_size", "usable_vocab", "pad_id", "bos_id", "eos_id", "tied", "output_dims"),
        ),
        "sizes": Group(
            f"{CAPTION}.options.TransformerSizes",
            ("dim", "num_heads", "ffn_dim", "decoder_layers", "encoder_layers", "max_positions"),
        ),
        "regions": Group(
            f"{CAPTION}.options.RegionOptions", ("region_feature", "max_regions", "num_classes")
        ),
        "training": Group(
            f"{CAPTION}.options.CaptionTraining",
            ("dropout", "word_dropout", "label_smoothing", "loss_weight"),
        ),
    },
    "yolor_d2.data.views.mapper.MultiTaskMapper": {
        "strides": Group(
            "yolor_d2.data.views.targets.TargetStrides",
            ("mask_stride", "sem_seg_stride"),
            ("mask", "sem_seg"),
        ),
        "captions": Group(
            "yolor_d2.data.views.mapper.CaptionOptions",
            ("max_caption_tokens", "captions_per_image"),
            ("max_tokens", "per_image"),
        ),
    },
    f"{DETECTION}.head.AnchorFreeHead": {
        "loss_weights": Group(
            f"{DETECTION}.losses.DetectionLossWeights",
            ("cls_weight", "box_weight", "dfl_weight"),
            ("cls", "box", "dfl"),
        ),
        "suppression": Group(
            f"{DETECTION}.suppression.Suppression",
            ("score_thresh", "nms_thresh", "multi_label", "pre_nms_topk", "detections_per_image"),
        ),
    },
    "yolor_d2.modeling.meta_arch.YOLOR": {
        "views": Group(
            "yolor_d2.modeling.views.ViewOptions", ("weak_view_tasks", "weak_bn", "pad")
        ),
    },
}


class MovedModule(ExecutionLoader):
    """Loads a module under its earlier name."""

    def __init__(self, name: str) -> None:
        self.name = name  # the current one

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec, which the import system has overwritten; the module has run before."""
        module.__spec__ = self.spec

    # `python -m` uses these to run the module as a program.

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
    """Finds the modules of `MOVED`; Python's own finders handle all other imports."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        return spec_from_loader(fullname, MovedModule(f"{package}.{MOVED[name]}"))


def canonical_name(name: str) -> str:
    """The dotted name under which a class or function is defined, for any name that imports it."""
    found = pydoc.locate(name)
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else name


def grouped_name(target: Any, name: str) -> str:
    """The path of a class's argument: `sizes.dim` for `dim`, other names unchanged.

    Args:
        target: a class or its dotted name.
        name: of the argument.
    """
    for field, group in _groups(target).items():
        if name in group.names:
            return f"{field}.{group.renamed()[name]}"
    return name


def group_arguments(node: Any) -> None:
    """Move flat arguments of a LazyConfig into their groups, in place; they override fields."""
    if isinstance(node, DictConfig):
        caller = node.get("_target_")
        for field, group in _groups(caller).items():
            moved = {new: _pop(node, old) for old, new in group.renamed().items() if old in node}
            if moved and node.get(field) is None:
                # Configuration files have classes as targets, texts in checkpoints have names.
                kind = group.target if isinstance(caller, str) else pydoc.locate(group.target)
                node[field] = {"_target_": kind}
            for name, value in moved.items():
                node[field][name] = value
    if isinstance(node, DictConfig | ListConfig):
        for child in node.values() if isinstance(node, DictConfig) else node:
            group_arguments(child)


def is_group(target: str) -> bool:
    """Whether a dotted name is the class of a group."""
    return any(target == group.target for groups in GROUPED.values() for group in groups.values())


def _groups(target: Any) -> dict[str, Group]:
    """The groups of a class or of one of its bases."""
    found = pydoc.locate(target) if isinstance(target, str) else target
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in getattr(found, "__mro__", ()))
    return next((GROUPED[name] for name in names if name in GROUPED), {})


def _pop(node: DictConfig, name: str) -> Any:
    """Remove a value; its relative interpolations get one more dot, as it moves one level down."""
    value = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[index, call-overload]
    del node[name]
    return value.replace("${.", "${..") if isinstance(value, str) else value


def install() -> None:
    """Let the earlier names be imported."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModuleFinder())
