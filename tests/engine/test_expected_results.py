"""TEST.EXPECTED_RESULTS: the run fails if metrics are missing or differ."""

import pytest

from yolor_d2.engine.evaluation import verify

RESULTS = {"bbox": {"AP": 30.0, "AP50": float("nan")}}


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        (["bbox", "AP", 31.0, 0.5], "bbox/AP is 30.0, not 31.0 +- 0.5"),
        (["bbox", "AP50", 31.0, 0.5], "bbox/AP50 is nan"),
        (["segm", "AP", 31.0, 0.5], "segm/AP is nan"),
    ],
)
def test_other_results_end_the_command(
    expected: list, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="1"):
        verify(RESULTS, [["bbox", "AP", 30.0, 0.1], expected])
    assert problem in caplog.text
    with pytest.raises(SystemExit):
        verify({}, [expected])


def test_results_of_several_data_sets() -> None:
    verify({"one": RESULTS, "two": RESULTS}, [["two/bbox", "AP", 30.2, 0.5]])
    verify(RESULTS, [])
