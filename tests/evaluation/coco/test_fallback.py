"""Without faster-coco-eval, pycocotools computes the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.evaluation import synthetic_data
from yolor_d2.data.catalog.categories import COCO_THINGS
from yolor_d2.data.catalog.datasets import register_coco_multitask
from yolor_d2.evaluation.coco import scoring as coco_scoring
from yolor_d2.evaluation.coco.evaluator import InstanceEvaluator

from ..predictions import outputs_of, perturbed_instances, samples_of

# Run in a new process, because the library is chosen at import.
SCRIPT = """
import json, sys
sys.modules["faster_coco_eval"] = None
from tests.evaluation.coco.test_fallback import coco_scoring, evaluate_twice
print(json.dumps([coco_scoring.COCOeval.__module__, evaluate_twice(sys.argv[1])]))
"""


def evaluate_twice(path: str) -> list[dict[str, dict[str, float]]]:
    """Metrics of the same results, scored by one process and by two."""
    register_coco_multitask("fallback", Path(path).parent, instances_json=path, things=COCO_THINGS)
    predictions = perturbed_instances(Path(path))
    results = []
    for processes in (1, 2):
        evaluator = InstanceEvaluator("fallback", processes=processes)
        evaluator.reset()
        evaluator.process(samples_of(predictions), outputs_of(predictions))
        results.append(evaluator.evaluate())
    return results


def test_numbers_are_the_same_without_faster_coco_eval(tmp_path: Path, catalogs: None) -> None:
    dataset, _ = synthetic_data(images=20, detections=0)
    names = zip(dataset["categories"], COCO_THINGS.names, strict=True)
    categories = [{**category, "name": name} for category, name in names]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({**dataset, "categories": categories}))

    fast = evaluate_twice(str(path))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    library, slow = json.loads(done.stdout)
    assert library == "pycocotools.cocoeval"
    assert coco_scoring.COCOeval.__module__.startswith("faster_coco_eval")
    assert done.stderr.count("faster-coco-eval cannot be imported") == 1
    for one, other in zip(fast, slow, strict=True):
        assert one.keys() == other.keys() == {"bbox", "segm"}
        for task, numbers in one.items():
            assert 0 < numbers["AP"] < 100
            assert other[task] == pytest.approx(numbers, abs=1e-9, rel=0, nan_ok=True)
