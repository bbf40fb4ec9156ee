"""The pins of `make test-lowest` are the lower bounds of setup.py."""

from importlib.metadata import requires

import pytest

from .lowest_versions import lowest_versions


def test_each_requirement_is_pinned_to_its_lower_bound() -> None:
    requirements = [
        "torch>=2.6",
        "fvcore<0.1.6,>=0.1.5.post20210327",
        'onnx>=1.17; extra == "export"',
        'onnx>=1.17; extra == "dev"',
    ]
    pins = ["fvcore==0.1.5.post20210327", "onnx==1.17", "torch==2.6"]
    assert lowest_versions(requirements) == pins
    assert len(lowest_versions(requires("yolor_d2") or [])) > 20


@pytest.mark.parametrize("requirement", ["torch", "torch<3", 'tqdm; python_version >= "3.12"'])
def test_requirement_without_lower_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match=r"^setup\.py: no lower bound in"):
        lowest_versions([requirement])
