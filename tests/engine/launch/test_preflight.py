import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from yolor_d2.engine.launch import preflight
from yolor_d2.engine.launch.preflight import (
    Facts,
    check_cluster,
    find_problems,
    find_warnings,
    table,
)

from ...processes import ended, free_port, started

FACTS = Facts(
    host="node1",
    code="aaa",
    config="bbb",
    torch="2.11",
    detectron2="ccc",
    gpu_name="H200",
    gpu_count=2,
    gpu="gpu-0",
    clock=1000.0,
    free_gib=100.0,
    sees_folder=True,
    sums_correctly=True,
)


def cluster(**change_of_the_last):
    gpus = [replace(FACTS, gpu=f"gpu-{k}", host=f"node{1 + k // 2}") for k in range(4)]
    return [*gpus[:3], replace(gpus[3], **change_of_the_last)]


def test_equal_processes():
    assert find_problems(cluster()) == []
    assert find_warnings(cluster()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"code": "zzz"}, "code of yolor_d2: zzz on processes 3, aaa on the others"),
        ({"config": "zzz"}, "configuration: zzz on processes 3, bbb on the others"),
        ({"torch": "2.6"}, "torch: 2.6 on processes 3, 2.11 on the others"),
        ({"detectron2": "zzz"}, "detectron2: zzz on processes 3, ccc on the others"),
        ({"gpu_count": 1}, "number of visible GPUs: 1 on processes 3, 2 on the others"),
        ({"gpu_name": ""}, "kind of GPU: none on processes 3, H200 on the others"),
        ({"gpu": "gpu-2"}, "processes 2, 3 use the same GPU of node2"),
        ({"sees_folder": False}, "processes 3 do not see the output folder of process 0"),
        ({"sums_correctly": False}, "all-reduce returns wrong sums on processes 3"),
    ],
)
def test_different_process_is_named(change, problem):
    assert find_problems(cluster(**change)) == [problem]


def test_warnings_do_not_prevent_a_run():
    assert find_warnings(cluster(clock=1004.9)) == []
    assert find_warnings(cluster(clock=990.0)) == [
        "the clock of node1 is 10 s ahead of that of node2"
    ]
    assert find_warnings([replace(FACTS, free_gib=2.04)]) == [
        "only 2.0 GiB are free in the output folder"
    ]


def test_table_has_one_line_per_process():
    lines = table(cluster(sees_folder=False)).splitlines()
    assert len(lines) == 2 + 4
    assert "NO" in lines[-1]
    assert "2 x H200" in lines[2]


def test_one_process(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert check_cluster(config_text="a: 1", output_dir=str(tmp_path))
    assert caplog.messages[-1] == "the cluster is ready"
    assert list(tmp_path.iterdir()) == []


def test_hashes_depend_on_names_and_contents(tmp_path):
    def digest():
        return preflight._short_hash(preflight._sources(tmp_path))

    (tmp_path / "a.py").write_text("1")
    seen = {digest()}
    (tmp_path / "a.py").write_text("2")
    seen.add(digest())
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    seen.add(digest())
    (tmp_path / "notes.txt").write_text("no program")
    seen.add(digest())
    assert len(seen) == 3


def test_two_tasks_of_slurm(tmp_path):
    """They meet, compute the same, and detect different configurations."""
    job = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_TASKS_PER_NODE": "2",
        "MASTER_PORT": str(free_port()),
    }
    tasks = [job | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    program = str(Path(__file__).parents[1] / "program.py")
    command = [sys.executable, program, "OUT", str(tmp_path), "DO", "check"]
    with (
        started(command, variables=tasks[0]) as first,
        started(command, variables=tasks[1]) as second,
    ):
        assert [ended(first)[0], ended(second)[0]] == [0, 0]
    for rank in range(2):
        facts = json.loads((tmp_path / f"facts{rank}").read_text())
        assert facts[:4] == [rank, 2, rank, 3.0]
        assert json.loads((tmp_path / f"checked{rank}").read_text()) == [True, False]
