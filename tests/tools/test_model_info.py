"""Parameters and GFLOPs from the command line."""

from pathlib import Path

import pytest

from yolor_d2.model_zoo import config_folder
from yolor_d2.tools.model_info import main

CONFIGS = config_folder()
PAN = CONFIGS / "COCO/yolor_elan_pan.yaml"


def info(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["--config-file", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("name", "backbone", "neck", "gflops", "parameters"),
    [
        ("yolor_elan", "13,371,808 66.14", "23,098,880 36.91", "174.66", 46_087_261),
        ("gelan_c", "8,328,384 41.85", "11,618,048 35.21", "147.25", 27_793_533),
    ],
)
def test_the_published_networks(
    capsys, name: str, backbone: str, neck: str, gflops: str, parameters: int
) -> None:
    """Exact parameters, and GFLOPs as counted in reference tables."""
    overrides = ("MODEL.YOLOR.IMPLICIT", "False", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "173")

    code, out, err = info(capsys, CONFIGS / f"COCO/{name}_pan.yaml", *overrides)

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == f"total parameters: {parameters}"
    assert lines[-2] == f"total GFLOPs: {gflops}"
    assert lines[2].split() == ["backbone", *backbone.split()]
    assert lines[3].split() == ["neck", *neck.split()]


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("COCO/yolor_elan_mtl_paper.yaml", 79_985_808),
        ("lazy/yolor_elan_mtl_paper.py", 79_985_808),
        ("reuse/retinanet_yolor_elan_fpn.yaml", 25_211_028),
    ],
)
def test_every_kind_of_configuration(capsys, path: str, parameters: int) -> None:
    code, out, _ = info(capsys, CONFIGS / path, "--size", "64")
    assert code == 0
    assert out.splitlines()[-1] == f"total parameters: {parameters}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope.yaml",), "nope.yaml"),
        ((PAN, "MODEL.NOPE", "3"), "MODEL.NOPE"),
        ((PAN, "MODEL.BACKBONE.NAME", "Foo"), "Foo"),
        ((PAN, "MODEL.META_ARCHITECTURE", "Foo"), "Foo"),
        ((PAN, "MODEL.YOLOR.TASKS", "[]"), "MODEL.YOLOR.TASKS is empty"),
        ((PAN, "--size", "100"), "--size must be a multiple of 32"),
        ((CONFIGS / "Base-YOLOR.yaml",), "MODEL.DETECTION_HEAD.NUM_CLASSES is 0"),
        ((CONFIGS / "lazy/yolor_elan_pan.py", "model.nope=3"), "nope"),
    ],
)
def test_errors_are_one_line(capsys, arguments: tuple[object, ...], message: str) -> None:
    code, out, err = info(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["a: [", "hello", "MODEL: 3", "MODEL:\n  NOPE: 1"])
def test_files_that_are_not_configurations(capsys, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    code, _, err = info(capsys, path)
    assert code == 2
    assert err.count("\n") == 1
