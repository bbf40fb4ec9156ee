"""Published networks of full size, with golden weights, as ONNX graphs."""

from pathlib import Path

import pytest

from yolor_d2.export.graphs import VISION, open_graph, parts_of, write_graph
from yolor_d2.export.parity import compare
from yolor_d2.modeling import deploy

from ..modeling.test_golden_networks import MANIFESTS, published
from .test_export import ONNX


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MANIFESTS)
def test_outputs_equal_the_networks(shared_dir: Path, name: str, tmp_path: Path) -> None:
    for package in ONNX:
        pytest.importorskip(package)
    model = deploy(published(shared_dir, name).float())
    parts, path = parts_of(model), tmp_path / "vision.onnx"
    write_graph(parts[VISION], path, "onnx")
    graphs = {VISION: open_graph(path, parts[VISION], threads=1)}
    differences = compare(model, parts, graphs, sizes=[(64, 96)], batches=(1, 2))
    assert max(each.error for each in differences) < 1e-3
