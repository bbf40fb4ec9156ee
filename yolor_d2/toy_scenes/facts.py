"""Facts about toy scenes that are true with a clear margin, for use in captions."""

from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

from .truth import Scene, SceneObject

SIDES = ("on the left", "on the right", "near the top", "near the bottom", "in the middle")
RELATIONS = ("left", "right", "above", "below", "larger", "smaller")


class Group(NamedTuple):
    """All objects of one class and color in a scene, or a crowd."""

    members: tuple[SceneObject, ...]

    @property
    def is_crowd(self) -> bool:
        """Whether the group is a crowd, which is not counted."""
        return self.members[0].is_crowd

    @property
    def place(self) -> str | None:
        """The stuff on which all members stand; None if it differs or is ambiguous."""
        places = {member.place for member in self.members}
        return places.pop() if len(places) == 1 else None


class Relation(NamedTuple):
    """A relation between two groups; `word` is one of RELATIONS."""

    first: Group
    word: str
    second: Group


def groups_of(scene: Scene) -> list[Group]:
    """Return the scene's groups, in the order of their first objects."""
    groups: dict[tuple[str, str], list[SceneObject]] = {}
    for item in scene.objects:
        groups.setdefault((item.thing, item.color), []).append(item)
    return [Group(members=tuple(members)) for members in groups.values()]


@lru_cache(maxsize=1)  # Several captions of a scene need them.
def relations_of(scene: Scene) -> tuple[Relation, ...]:
    """Return the relations that are clear between all members of two groups."""
    return tuple(
        Relation(first=first, word=word, second=second)
        for first, second in permutations(groups_of(scene), 2)
        for word in RELATIONS
        if all(_is_clear(word, a, b, scene) for a in first.members for b in second.members)
    )


def _is_clear(word: str, first: SceneObject, second: SceneObject, scene: Scene) -> bool:
    if word in ("right", "below", "smaller"):
        opposite = {"right": "left", "below": "above", "smaller": "larger"}[word]
        return _is_clear(opposite, second, first, scene)
    across, down = (second.center[axis] - first.center[axis] for axis in (0, 1))
    if word == "left":
        return across > 0.12 * scene.width + 0.25 * (first.box[2] + second.box[2])
    if word == "above":
        margin = 0.12 * scene.height + 0.25 * (first.box[3] + second.box[3])
        return down > max(margin, abs(across))
    whole = min(first.visible_share, second.visible_share) > 0.9
    countable = not (first.is_crowd or second.is_crowd)
    return whole and countable and max(first.box[2:]) > 1.7 * max(second.box[2:])


def side_of(group: Group, scene: Scene) -> str | None:
    """Return the part of the image in which a group clearly is; None if ambiguous."""
    across = [member.center[0] / scene.width for member in group.members]
    down = [member.center[1] / scene.height for member in group.members]
    conditions = (
        max(across) < 0.33,
        min(across) > 0.67,
        max(down) < 0.28,
        min(down) > 0.74,
        all(abs(share - 0.5) < 0.08 for share in across + down),
    )
    return next((side for side, is_there in zip(SIDES, conditions, strict=True) if is_there), None)
