from argparse import Namespace

import pytest

from yolor_d2.engine.launch.slurm import first_host, group_variables, is_task, tasks_per_machine

TASK = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_JOB_NODELIST": "gpu[017-018]",
}


def flags(num_gpus=1, num_machines=1):
    return Namespace(num_gpus=num_gpus, num_machines=num_machines)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("single", "single"),
        ("one,two", "one"),
        ("node[003-007,010]", "node003"),
        ("node[010,003]", "node010"),
        ("rack1-node[3,5],other", "rack1-node3"),
        ("rack[2-3]-node[07-09]", "rack2-node07"),
        ("a.b.org,node[1-2]", "a.b.org"),
    ],
)
def test_first_host(hosts, first):
    assert first_host(hosts) == first


@pytest.mark.parametrize(
    ("layout", "tasks"), [("4", [4]), ("2(x3)", [2, 2, 2]), ("12(x2),3", [12, 12, 3])]
)
def test_tasks_per_machine(layout, tasks):
    assert tasks_per_machine(layout) == tasks


def test_variables_of_torchrun():
    assert group_variables(TASK) == {
        "MASTER_ADDR": "gpu017",
        "MASTER_PORT": "19567",  # 15000 + 1234567 % 15000
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }


def test_slurm_step_on_part_of_the_machines():
    step = {"SLURM_STEP_NODELIST": "gpu018", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NTASKS": "2"}
    found = group_variables(TASK | step | {"SLURM_PROCID": "1"})
    assert (found["MASTER_ADDR"], found["LOCAL_WORLD_SIZE"]) == ("gpu018", "2")


def test_master_address_and_port_are_kept():
    found = group_variables(TASK | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5555"})
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "5555")


@pytest.mark.parametrize(
    "change",
    [{"SLURM_TASKS_PER_NODE": "4,2(x2)"}, {"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}],
    ids=["uneven", "round robin"],
)
def test_unsupported_layouts_are_refused(change):
    with pytest.raises(ValueError, match="the same number of tasks, counted machine by machine"):
        group_variables(TASK | change)


def test_slurm_tasks():
    assert is_task(flags(), TASK)
    assert is_task(flags(num_gpus=0), TASK)
    assert not is_task(flags(), {})
    assert not is_task(flags(), TASK | {"SLURM_NTASKS": "1"})
    assert not is_task(flags(), {"SLURM_PROCID": "0"})  # a batch script without tasks


def test_flags_for_several_processes_have_priority():
    assert not is_task(flags(num_gpus=8), TASK)  # a batch script, not started by srun
    step = {"SLURM_STEP_NUM_TASKS": "2"}
    assert not is_task(flags(num_gpus=4, num_machines=2), TASK | step)


def test_srun_and_flags_that_would_both_start_processes():
    step = {"SLURM_STEP_NUM_TASKS": "8"}
    with pytest.raises(ValueError, match="srun starts 8 processes, and --num-gpus 4 would"):
        is_task(flags(num_gpus=4), TASK | step)
