"""Cases of the fuzzer, and the files that reproduce them."""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

GIVEN, OUT = "given", "out"  # folders of a case: its files, and what may be written


class Case(NamedTuple):
    """One hostile input.

    Attributes:
        files: contents by path below GIVEN.
        arguments: of the target, as JSON.
        what: the mutations, for people.
        places: an error line must contain one of these; it names the file or the key.
    """

    files: dict[str, bytes]
    arguments: Any = None
    what: str = ""
    places: tuple[str, ...] = (GIVEN,)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader that the fuzzer attacks.

    Attributes:
        about: what is read, and what a right result is.
        prepare: makes the state, once.
        mutate: makes a case from a random generator, the index of the case and the state. The same
            arguments make the same case.
        run: reads a case in its folder. Returns the exit code of a program, or None if it was
            accepted. Raises the error of the reader, or an AssertionError for a wrong result.
        seconds: longest CPU time of a case.
        megabytes: memory that a case may use.
    """

    about: str
    prepare: Callable[[], Any]
    mutate: Callable[[Random, int, Any], Case]
    run: Callable[[Any, Case], int | None]
    seconds: float = 5.0
    megabytes: int = 1000


class Outcome(NamedTuple):
    """What a case led to.

    Attributes:
        kind: ACCEPTED, REFUSED, or the kind of the finding.
        detail: the error line, or a description of the finding.
        place: where a finding is in the code; equal findings are counted once.
    """

    kind: str
    detail: str = ""
    place: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in (ACCEPTED, REFUSED)


ACCEPTED, REFUSED = "accepted", "refused"


def generator(name: str, seed: int, index: int) -> Random:
    """Return the random generator of a case."""
    return Random(f"{name} {seed} {index}")


def save_case(path: Path, name: str, case: Case, outcome: Outcome) -> None:
    """Write a file that reproduces a case."""
    files = {file: b64encode(zlib.compress(data)).decode() for file, data in case.files.items()}
    content = {"target": name, **outcome._asdict(), **case._asdict(), "files": files}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def load_case(path: Path) -> tuple[str, Case]:
    """Read the name of the target and the case from a file of `save_case`."""
    content = json.loads(path.read_text())
    files = {file: zlib.decompress(b64decode(text)) for file, text in content["files"].items()}
    places = tuple(content["places"])
    return content["target"], Case(files, content["arguments"], content["what"], places)
