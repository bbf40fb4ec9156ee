"""Reading model.json, whose values are checked: the file can be from anywhere."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner_graphs import RunnerError

MODEL_FILE = "model.json"
MAX_SIDE = 16_384  # pixels of the long side of the network's input
MAX_CLASSES = 10_000
MAX_NUMBER = 10_000_000

Facts = dict[str, Any]
Check = Callable[[Any], bool]


def whole(low: int, high: int = MAX_NUMBER) -> Check:
    """Return a check for integers from `low` to `high`."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Check:
    """Return a check for numbers from `low` to `high`."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def one_of(*choices: str) -> Check:
    """Return a check for some texts."""
    return lambda value: isinstance(value, str) and value in choices


def list_of(check: Check) -> Check:
    """Return a check for lists of at most MAX_CLASSES values."""
    return lambda value: (
        isinstance(value, list) and len(value) <= MAX_CLASSES and all(map(check, value))
    )


def table_of(check: Check) -> Check:
    """Return a check for objects."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a character
        return False


def is_file_name(value: Any) -> bool:
    """Whether a value is the name of a file in the folder of model.json."""
    return is_text(value) and value not in ("", "..") and Path(value).name == value


is_index = whole(-1, MAX_CLASSES)

SECTIONS: dict[str, dict[str, Check]] = {
    "input": {
        "size": whole(1, MAX_SIDE),
        "divisor": whole(1, 1024),
        "pad": one_of("corner", "center"),
        "pad_value": whole(0, 255),
        "channels": one_of("RGB", "BGR"),
    },
    "detection": {
        "score_threshold": number(0, 1),
        "nms_threshold": number(0, 1),
        "multi_label": is_flag,
        "pre_nms_topk": whole(1),
        "detections_per_image": whole(1),
    },
    "mask": {"stride": whole(1, 64), "resolution": one_of("input", "fast")},
    "panoptic": {
        "thing_to_panoptic": list_of(is_index),
        "leaf_to_panoptic": list_of(is_index),
        "overlap_threshold": number(0, 1),
        "stuff_area_limit": number(0, float("inf")),
        "score_threshold": number(0, 1),
    },
    "caption": {
        "pad_id": whole(0),
        "bos_id": whole(0),
        "eos_id": whole(0),
        "usable": whole(0),
        "beam_size": whole(1, 1000),
        "max_tokens": whole(2, MAX_CLASSES),
        "min_tokens": whole(0),
        "length_penalty": number(0, 100),
        "no_repeat_ngram": whole(0),
        "finished_in_beam": is_flag,
    },
}
VALUES: dict[str, Check] = {
    "graphs": table_of(is_file_name),
    "classes": table_of(list_of(is_text)),
    "class_ids": table_of(list_of(whole(-MAX_NUMBER))),
    "outputs": table_of(list_of(is_text)),
    "caption_cache": lambda value: list_of(whole(1, MAX_CLASSES))(value) and len(value) == 3,
    "tokenizer": is_file_name,
    "end_to_end": is_flag,
}
REQUIRED = ("graphs", "input", "classes", "class_ids", "outputs")


def read_facts(folder: Path) -> Facts:
    """Return the content of a folder's model.json.

    Raises:
        RunnerError: there is none, it is damaged, or a value is missing or cannot be used.
    """
    path = folder / MODEL_FILE
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunnerError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RunnerError(f"{path}: is not valid JSON ({reason})") from None
    if not isinstance(facts, dict):
        raise RunnerError(f"{path}: is not an object")
    has_captions = "caption" in facts
    for name in (*REQUIRED, *(("caption_cache",) if has_captions else ())):
        if name not in facts:
            raise RunnerError(f"{path}: has no {name}")
    for name, value in facts.items():
        if name in SECTIONS:
            _check_section(path, name, value, SECTIONS[name])
        elif name in VALUES and not VALUES[name](value):
            raise RunnerError(f"{path}: {name} has a value that cannot be used")
    needed = {"vision", *(("caption_start", "caption_step") if has_captions else ())}
    if missing := sorted(needed - facts["graphs"].keys()):
        raise RunnerError(f"{path}: graphs has no {missing[0]}")
    return facts


def _check_section(path: Path, name: str, section: Any, checks: Mapping[str, Check]) -> None:
    if not isinstance(section, dict) or section.keys() != checks.keys():
        raise RunnerError(f"{path}: {name} must have exactly {', '.join(checks)}")
    for key, check in checks.items():
        if not check(section[key]):
            value = repr(section[key])[:60]
            raise RunnerError(f"{path}: {name}.{key} is {value}, which cannot be used")
