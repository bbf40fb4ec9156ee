"""A network described by a LazyConfig, from a *.py file or a checkpoint.

A checkpoint stores the LazyConfig as Python code. The code is parsed, not run: only literal values
are read, and only classes of yolor_d2's networks are called.
"""

import ast
import copy
import pydoc
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.data import Metadata
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..checkpoint.release import StoredWeights
from ..data import MultiTaskMapper
from ..earlier_names import group_arguments
from ..errors import ConfigError, OptionError, UnsafeError
from ..modeling import YOLOR
from ..modeling.backbone import elan_shapes, gelan_pan_shapes, gelan_shapes, pan_shapes
from ..modeling.heads import read_by_caption_head
from ..modeling.heads.detection import Suppression
from ..tasks import TASKS
from ..tokenizer import Tokenizer

PARTS = f"{YOLOR.__module__.rpartition('.')[0]}."
FUNCTIONS = (elan_shapes, gelan_pan_shapes, gelan_shapes, pan_shapes)
MAPPER = MultiTaskMapper.__name__


class LazyRecipe:
    """The counterpart of `YamlRecipe` for a LazyConfig, with the same arguments and attributes.

    Here `opts` are model.NAME=VALUE, ...
    """

    def __init__(
        self,
        cfg: DictConfig,
        *,
        device: str,
        score_threshold: float = 0.0,
        opts: Sequence[Any] = (),
    ) -> None:
        model, mapper = (cfg.get(name) or {} for name in ("model", "test_mapper"))
        if "_target_" not in model or _last_name(mapper.get("_target_")) != MAPPER:
            raise ConfigError(f"the LazyConfig must have a model, and a {MAPPER} as test_mapper")
        group_arguments(model)
        heads = {task: model.get(f"{task}_head") for task in TASKS}
        self.tasks = [task for task, head in heads.items() if head is not None]
        if (head := heads["detection"]) is not None:
            if head.get("suppression") is None:
                head.suppression = LazyCall(Suppression)()
            suppression = head.suppression
            suppression.score_thresh = max(suppression.get("score_thresh", 0.0), score_threshold)
        if (head := heads["mask"]) is not None:
            head.mask_format = "rle"
        self.cfg: DictConfig = _with_options(cfg, opts)
        group_arguments(model)
        self.device = device
        head = heads["caption"] or {}
        self.caption_needs = read_by_caption_head(_last_name(head.get("_target_")))
        if (head.get("regions") or {}).get("region_feature"):
            self.caption_needs |= {"detection"}
        self.weights: str = (cfg.get("init") or {}).get("weights", "")
        self.kind: str = (cfg.get("run") or {}).get("eval_weights", "ema")
        data = cfg.get("data") or {}
        self.datasets: list[str] = [*data.get("train", ()), *data.get("test", ())]
        self.test_datasets: list[str] = [*data.get("test", ())]
        self.class_counts: dict[str, int] = {
            f"{kind}_classes": (heads[task] or {}).get("num_classes", 0)
            for kind, task in (("thing", "detection"), ("stuff", "semantic"))
        }
        defaults = signature(MultiTaskMapper).parameters
        self.test_size, self.image_format = (
            mapper.get(name, defaults[name].default) for name in ("test_size", "image_format")
        )

    def build(self, tasks: Sequence[str], stored: StoredWeights, metadata: Metadata) -> YOLOR:
        """See `YamlRecipe.build`; `metadata` is not used: the LazyConfig contains the classes."""
        node = copy.deepcopy(self.cfg.model)
        for task in set(TASKS) - set(tasks):
            node[f"{task}_head"] = None
        if not {"mask", "semantic"} <= set(tasks):
            node.panoptic = None
        tokenizer = self._tokenizer(stored) if "caption" in tasks else None
        if tokenizer is not None:
            set_usable_vocab(node.caption_head, len(tokenizer))
        try:
            model = instantiate({**node, "tokenizer": tokenizer})
        except (TypeError, KeyError, AttributeError, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"the LazyConfig's model cannot be built: {reason}") from None
        if not isinstance(model, YOLOR):
            raise ConfigError(f"the LazyConfig's model is {type(model).__name__}; it must be YOLOR")
        return model.to(self.device)

    def _tokenizer(self, stored: StoredWeights) -> Tokenizer | None:
        if stored.tokenizer is not None:
            return Tokenizer(stored.tokenizer)
        path = (self.cfg.get("tokenizer") or {}).get("model")
        return Tokenizer.load(path) if path else None


def set_usable_vocab(caption_head: DictConfig, size: int) -> None:
    """Set the number of ids that a caption head can generate, if it has a vocabulary group."""
    if caption_head.get("vocabulary") is not None:
        caption_head.vocabulary.usable_vocab = size


def read_lazy(path: Path) -> DictConfig:
    """Load the LazyConfig of a *.py file, which is executed."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        return LazyConfig.load(str(path))
    except Exception as error:  # user code can raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"{path}: {type(error).__name__}: {reason}") from None


def parse_lazy(text: str) -> DictConfig | None:
    """Parse the LazyConfig of a checkpoint, as written by `LazyConfig.to_py`, without running it.

    Returns:
        The LazyConfig; None if the text is not one.

    Raises:
        ValueError: it calls anything but parts of yolor_d2's networks.
    """
    cfg = OmegaConf.create()
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign):
                return None
            name = ast.unparse(statement.targets[0]).removeprefix("cfg.")
            OmegaConf.update(cfg, name, _value(statement.value))
    except (SyntaxError, ValueError, RecursionError, OmegaConfBaseException):
        return None
    for name in _called(cfg.get("model")):
        if not _is_part(name):
            raise UnsafeError(
                f"{name} is not part of yolor_d2's networks: pass the LazyConfig's file"
            )
    return cfg


def _value(node: ast.expr) -> Any:
    """Return the value of a literal; for a call, the plain data that `instantiate` takes."""
    if isinstance(node, ast.Call):
        names = [keyword.arg for keyword in node.keywords]
        values = [_value(keyword.value) for keyword in node.keywords]
        return {"_target_": ast.unparse(node.func)} | dict(zip(names, values, strict=True))
    if isinstance(node, ast.List):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values), strict=True))
    return ast.literal_eval(node)


def _called(node: Any) -> Iterator[str]:
    """Yield the names of everything that `instantiate` would call."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _called(value)
    elif OmegaConf.is_list(node):
        for value in node:
            yield from _called(value)


def _is_part(name: str) -> bool:
    if not name.startswith(PARTS):
        return False
    found = pydoc.locate(name)
    # A module's names include what it imports.
    is_ours = isinstance(found, type) and f"{found.__module__}.".startswith(PARTS)
    return is_ours or found in FUNCTIONS


def _last_name(target: Any) -> str:
    """Return the last part of a class name; a file contains the class, a checkpoint its name."""
    return target.__name__ if isinstance(target, type) else str(target).rpartition(".")[2]


def _with_options(cfg: DictConfig, opts: Sequence[Any]) -> DictConfig:
    """Apply NAME=VALUE, ... to the model; the parent of each name must exist."""
    for option in map(str, opts):
        name, equals, value = option.partition("=")
        parent = OmegaConf.select(cfg, name.rpartition(".")[0])
        if not (equals and name.startswith("model.") and isinstance(parent, DictConfig)):
            raise OptionError(f"{option}: must be model.NAME=VALUE with a NAME of the LazyConfig")
        OmegaConf.update(cfg, name, OmegaConf.from_dotlist([f"value={value}"]).value)
    return cfg
