"""The tasks that can be trained together."""

from collections.abc import Sequence

from .errors import ConfigError

TASKS = ("detection", "mask", "semantic", "caption")


def check_tasks(tasks: Sequence[str], weak_view_tasks: Sequence[str]) -> None:
    """Refuse unknown tasks and impossible combinations; errors name the key."""
    for key, names in (("MODEL.YOLOR.TASKS", tasks), ("INPUT.WEAK_VIEW_TASKS", weak_view_tasks)):
        unknown = sorted(set(names) - set(TASKS))
        if unknown:
            raise ConfigError(f"{key} has {', '.join(unknown)}; it may have {', '.join(TASKS)}")
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ConfigError(f"{key} has {', '.join(twice)} twice")
    if not tasks:
        raise ConfigError("MODEL.YOLOR.TASKS is empty")
    if "mask" in tasks:
        if "detection" not in tasks:
            raise ConfigError('MODEL.YOLOR.TASKS has "mask", which needs "detection"')
        if ("mask" in weak_view_tasks) != ("detection" in weak_view_tasks):
            raise ConfigError('INPUT.WEAK_VIEW_TASKS must treat "mask" and "detection" alike')
