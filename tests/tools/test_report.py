"""The report on a run for an issue."""

import platform
import zipfile
from pathlib import Path

import pytest

from yolor_d2.tools import report

LOG = """[11/29 18:00:00] yolor_d2 INFO: started
[11/29 18:00:01] yolor_d2 DEBUG: traceback of the error
Traceback (most recent call last):
  File "earlier.py", line 1, in <module>
OSError: the first
[11/29 18:00:02] yolor_d2 DEBUG: traceback of the error
Traceback (most recent call last):
  File "{home}/code/run.py", line 9, in <module>
KeyError: 'a'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
ValueError: the last
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run below a home folder."""
    home = tmp_path / "ann"
    folder = home / "output/photos"
    (folder / "samples").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.chdir(tmp_path)
    lines = "".join(f"[11/29 18:00:03] yolor_d2 INFO: step {n}\n" for n in range(3000))
    (folder / "log.txt").write_text(LOG.format(home=home) + lines)
    (folder / "config.yaml").write_text(f"OUTPUT_DIR: {folder}\nSEED: 3\n")
    (folder / "metrics.json").write_text('{"bbox/AP": 30.5}\n')
    (folder / "model_final.pth").write_bytes(bytes(1234))
    (folder / "samples/sample_00.jpg").write_bytes(b"image")
    return folder


def read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_contents(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.startswith("report_photos.zip: 6 files, ")
    found = read(Path("report_photos.zip"))
    texts = {f"run/{name}" for name in ("log.txt", "config.yaml", "metrics.json")}
    assert set(found) == {"doctor.txt", "files.txt", "traceback.txt"} | texts
    assert "torch" in found["doctor.txt"]
    assert "        1234 model_final.pth\n" in found["files.txt"]
    assert "           5 samples/sample_00.jpg" in found["files.txt"]
    assert found["run/metrics.json"] == '{"bbox/AP": 30.5}\n'
    lines = found["run/log.txt"].splitlines()
    assert (len(lines), lines[-1][-9:]) == (report.LAST_LINES, "step 2999")
    assert found["traceback.txt"].startswith('Traceback (most recent call last):\n  File "~/code')
    assert found["traceback.txt"].endswith("ValueError: the last\n")
    assert "the first" not in found["traceback.txt"]
    assert not any(str(Path.home()) in text for text in found.values())
    assert found["run/config.yaml"] == "OUTPUT_DIR: ~/output/photos\nSEED: 3\n"


def test_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("the key")
    (run / "log.txt.rank1").symlink_to(tmp_path / "private/key")
    (run / "nonfinite_0.json").symlink_to(tmp_path / "private/key")
    (run / "linked").symlink_to(tmp_path / "private")
    assert report.main([str(run), "--output", "x.zip"]) == 0
    found = read(Path("x.zip"))
    assert not any("the key" in text for text in found.values())
    assert "linked/key" not in found["files.txt"]


@pytest.mark.parametrize(
    "text",
    [
        *("password: hunter2", '"api_key": "hunter2"', "WANDB_API_KEY=hunter2", "--token hunter2"),
        *("https://ann:hunter2@host/x", "http://host:7860/?token=hunter2", "SECRET = 'hunter2'"),
        *("Authorization: Bearer hunter2", '["--password", "hunter2"]', "x: hf_hunter2hunter2"),
        r"{\"access_key\": \"hunter2\"}",
    ],
)
def test_secrets_are_removed(text: str) -> None:
    assert "hunter2" not in report.cleaned(text)
    assert report.REMOVED in report.cleaned(text)


@pytest.mark.parametrize(
    "text",
    [
        *("MAX_TOKENS: 40", "TOKENIZER:\n  MODEL: ''", "https://host/path@2", "the home page"),
        *("homes/ann/x", "/data/home/ann", "keys: 3", "12 tokens a caption"),
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert report.cleaned(text) == text


def test_homes_and_machine_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/root"))
    monkeypatch.setattr(platform, "node", lambda: "tower7")
    text = "/root/a /root /roots /home/bob/b /Users/eve/c process 3 on tower7"
    assert report.cleaned(text) == "~/a ~ /roots ~/b ~/c process 3 on (machine)"


def test_errors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.zip").touch()
    assert report.main([str(run), "--output", "x.zip"]) == 2
    assert report.main(["nowhere"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("yolor-d2 report: x.zip: exists; choose another file with --output")
    assert second.startswith("yolor-d2 report: nowhere: there is no such folder")
