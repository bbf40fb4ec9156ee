import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from yolor_d2.engine.launch import processes as module
from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.launch.processes import launch
from yolor_d2.errors import OptionError, line_of

from ...processes import TORCHRUN, ended, free_port, started, wait_for, wait_until_gone

PROGRAM = str(Path(__file__).parents[1] / "program.py")
TWO = ("--num-gpus", "2", "--dist-url", "auto")
USR2_TOO = ("--signals-to-handle", "SIGTERM,SIGINT,SIGUSR2")


def program(folder, what, *flags):
    return (PROGRAM, *flags, "OUT", str(folder), "DO", what)


def spawning(folder, what, *flags):
    return (sys.executable, *program(folder, what, *(flags or TWO)))


def torchrun(folder, what, *flags):
    return (*TORCHRUN, "--standalone", "--nproc-per-node", "2", *flags, *program(folder, what))


def facts(folder):
    """Rank, world size, local rank, and sum of ranks + 1, of each process."""
    return [json.loads((folder / f"facts{rank}").read_text())[:4] for rank in range(2)]


def pids(folder):
    return [json.loads((folder / f"facts{rank}").read_text())[4] for rank in range(2)]


def files(folder, name, part=0):
    return [folder / f"{name}{rank}_{part}" for rank in range(2)]


def texts(folder, name, part=0):
    return [path.read_text() for path in files(folder, name, part)]


ONE_MACHINE = [[0, 2, 0, 3.0], [1, 2, 1, 3.0]]
TWO_MACHINES = [[0, 2, 0, 3.0], [1, 2, 0, 3.0]]


def test_single_process_is_the_current_one(monkeypatch):
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    seen = []
    launch(seen.append, argument_parser().parse_args(["--num-gpus", "0"]))
    assert len(seen) == 1
    assert not torch.distributed.is_initialized()


def test_more_processes_than_gpus(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SystemExit) as end:
        launch(print, argument_parser().parse_args(["--num-gpus", "4"]))
    assert end.value.code == module.WRONG_USE
    line = line_of(OptionError("--num-gpus 4: this machine has 2 GPUs"))
    assert capsys.readouterr().err == f"{Path(sys.argv[0]).name}: {line}\n"


def test_spawned_processes_save_at_every_signal_to_their_parent(tmp_path):
    with started(spawning(tmp_path, "rounds")) as parent:
        wait_for(*files(tmp_path, "ready", 0), process=parent)
        os.kill(parent.pid, signal.SIGUSR2)
        wait_for(*files(tmp_path, "ready", 1), process=parent)
        os.kill(parent.pid, signal.SIGTERM)
        wait_for(*files(tmp_path, "ready", 2), process=parent)
        os.killpg(parent.pid, signal.SIGINT)  # as Ctrl-C does
        code, errors = ended(parent)
    assert code == 75
    assert "Traceback" not in errors
    assert facts(tmp_path) == ONE_MACHINE
    assert texts(tmp_path, "saved", 0) == ["SIGUSR2"] * 2
    assert texts(tmp_path, "saved", 1) == ["SIGTERM"] * 2
    # From the terminal; the parent may have passed it on already.
    assert set(texts(tmp_path, "saved", 2)) <= {"SIGINT", "SIGTERM"}
    wait_until_gone(*pids(tmp_path))


def check_torchrun(tmp_path, signum, *flags):
    with started(torchrun(tmp_path, "train", *flags)) as agent:
        wait_for(*files(tmp_path, "ready"), process=agent)
        os.kill(agent.pid, signum)
        code, errors = ended(agent)
    assert code == 1  # torchrun's own, after any signal
    assert f"SignalException: Process {agent.pid} got signal: {signum:d}" in errors
    assert facts(tmp_path) == ONE_MACHINE
    assert texts(tmp_path, "saved") == [signum.name] * 2


def test_torchrun_gives_time_to_save(tmp_path):
    check_torchrun(tmp_path, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "flags"), [(signal.SIGINT, ()), (signal.SIGUSR2, USR2_TOO)], ids=["INT", "USR2"]
)
def test_torchrun_gives_time_to_save_at_other_signals(tmp_path, signum, flags):
    check_torchrun(tmp_path, signum, *flags)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGUSR2, signal.SIGKILL], ids=["USR2", "KILL"])
def test_processes_save_when_torchrun_dies(tmp_path, signum):
    with started(torchrun(tmp_path, "train")) as agent:
        wait_for(*files(tmp_path, "ready"), process=agent)
        os.kill(agent.pid, signum)
        assert ended(agent)[0] == -signum
        wait_for(*files(tmp_path, "saved"))
        wait_until_gone(*pids(tmp_path))


@pytest.mark.slow
def test_processes_save_when_their_parent_dies(tmp_path):
    with started(spawning(tmp_path, "train")) as parent:
        wait_for(*files(tmp_path, "ready"), process=parent)
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(*files(tmp_path, "saved"))
        wait_until_gone(*pids(tmp_path))


@pytest.mark.slow
def test_two_machines_by_flags(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    flags = [("--num-machines", "2", "--machine-rank", rank, "--dist-url", url) for rank in "01"]
    first, second = (spawning(tmp_path, "train", *machine) for machine in flags)
    with started(first) as one, started(second) as two:
        wait_for(*files(tmp_path, "ready"))
        os.kill(two.pid, signal.SIGTERM)  # on one machine; both stop
        assert ended(one)[0] == ended(two)[0] == 75
    assert facts(tmp_path) == TWO_MACHINES
    assert sorted(texts(tmp_path, "saved")) == ["None", "SIGTERM"]


@pytest.mark.slow
def test_two_machines_by_torchrun(tmp_path):
    place = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    command = program(tmp_path, "finish")
    first, second = ((*TORCHRUN, *place, "--node-rank", rank, *command) for rank in "01")
    with started(first) as one, started(second) as two:
        assert ended(one)[0] == ended(two)[0] == 0
    assert facts(tmp_path) == TWO_MACHINES


@pytest.mark.slow
def test_second_ctrl_c_does_not_wait(tmp_path):
    with started(spawning(tmp_path, "save_for_long")) as parent:
        wait_for(*files(tmp_path, "ready"), process=parent)
        os.killpg(parent.pid, signal.SIGINT)
        time.sleep(1.5)
        os.killpg(parent.pid, signal.SIGINT)
        start = time.monotonic()
        assert ended(parent)[0] == 128 + signal.SIGINT
    assert time.monotonic() - start < 20
    assert not any(path.exists() for path in files(tmp_path, "saved"))


@pytest.mark.slow
def test_signal_before_training_ends_the_run_at_once(tmp_path):
    with started(spawning(tmp_path, "wait")) as parent:
        wait_for(*(tmp_path / f"facts{rank}" for rank in range(2)))
        os.kill(parent.pid, signal.SIGTERM)
        assert ended(parent)[0] == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "code", "error", "tracebacks"),
    [
        ("finish", 0, "", 0),
        ("fail", 1, "RuntimeError: the reason", 1),
        ("refuse", 2, "", 0),
        ("die", 1, "process 1 terminated with signal SIGKILL", 0),
    ],
)
def test_exit_codes_of_spawned_processes(tmp_path, what, code, error, tracebacks):
    with started(spawning(tmp_path, what)) as parent:
        found, errors = ended(parent)
    assert found == code
    assert error in errors
    assert errors.count("Traceback") == tracebacks
    assert "destroy_process_group" not in errors


@pytest.mark.slow
def test_missing_process_is_reported_with_address(tmp_path, monkeypatch, capfd):
    port = free_port()
    values = {"RANK": 1, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
    for name, value in (values | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(module, "signal_at_death_of_parent", lambda signum: None)
    with pytest.raises(SystemExit, match=rf"2 processes should meet at 127.0.0.1:{port}: .*reach"):
        module.join_group(module.timedelta(seconds=1))
