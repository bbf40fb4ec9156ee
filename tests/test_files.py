"""Files are written atomically, and JSON has no NaN."""

import json
import math
from pathlib import Path

import pytest

from yolor_d2.files import write_json


def test_an_interrupted_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def write_a_part(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:3])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.json: .+JSON"):
        write_json(tmp_path / "metrics.json", {"a": math.nan})
