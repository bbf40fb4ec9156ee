"""Training as a SLURM job, with submitit replaced or running locally."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.processes import wait_for
from yolor_d2.engine.launch.submit import Job, resuming
from yolor_d2.errors import OptionError, PackageError, line_of
from yolor_d2.tools import slurm_train

SCRIPT = """
import os, sys, time
from pathlib import Path
from yolor_d2.engine.launch import signals

folder = Path(sys.argv[-1])
if "--resume" in sys.argv:
    (folder / "resumed").write_text(" ".join(sys.argv[1:]))
    sys.exit()
with signals.watching():
    (folder / "pid").write_text(str(os.getpid()))
    while not signals.requested():
        time.sleep(0.01)
    (folder / "saved").write_text(signals.requested())
    raise signals.Interrupted
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture(autouse=True)
def _restored_process_state(monkeypatch):
    """The job changes arguments and import path of its process."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)


def test_resuming():
    command = ["train_net.py", "--config-file", "c", "KEY", "1"]
    expected = ["train_net.py", "--resume", "--config-file", "c", "KEY", "1"]
    assert resuming(command) == expected
    assert resuming(expected) == expected


def run(command, signum):
    """Run a job in this process and send it a signal.

    Returns the exit code and the signals of submitit's handler, which here only returns, as it does
    in all processes but the first.
    """
    received = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: received.append(number))
    pid = Path(command[-1]) / "pid"

    def send_when_ready():
        wait_for(pid)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send_when_ready)
    sender.start()
    try:
        Job()(command)
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sender.join()
        signal.signal(signal.SIGUSR2, before)
    return code, received


def test_submitit_gets_the_signal_after_the_run_is_saved(tmp_path, script):
    assert run([script, str(tmp_path)], signal.SIGUSR2) == (0, [signal.SIGUSR2])
    assert (tmp_path / "saved").read_text() == "SIGUSR2"


def test_a_canceled_run_is_not_requeued(tmp_path, script):
    assert run([script, str(tmp_path)], signal.SIGTERM) == (75, [])
    assert (tmp_path / "saved").read_text() == "SIGTERM"


def test_a_job_that_slurm_restarts_resumes(tmp_path, script, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    Job()([script, str(tmp_path)])
    assert (tmp_path / "resumed").exists()


def test_missing_script(capsys):
    assert slurm_train.main(["nowhere.py", "--resume"]) == 2
    line = line_of(OptionError("nowhere.py: no such script"))
    assert capsys.readouterr().err == f"python -m yolor_d2.tools.slurm_train: {line}\n"


def test_without_submitit(script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert slurm_train.main([script]) == 2
    line = line_of(PackageError("needs submitit: pip install 'yolor_d2[slurm]'"))
    assert capsys.readouterr().err == f"python -m yolor_d2.tools.slurm_train: {line}\n"


def test_sbatch_options(tmp_path, script, monkeypatch):
    """The batch file, without SLURM."""
    submitit = pytest.importorskip("submitit")
    texts = []

    def take(executor, path):
        texts.append(Path(path).read_text())
        return ["echo", "Submitted batch job 12"]

    slurm = submitit.slurm.slurm.SlurmExecutor
    monkeypatch.setattr(slurm, "_make_submission_command", take)
    monkeypatch.setattr(slurm, "affinity", classmethod(lambda cls: 2))
    options = ["--partition", "gpu", "--nodes", "2", "--gpus", "4", "--timeout", "90"]
    options += ["--constraint", "h200", "--comment", "mine", "--job-dir", str(tmp_path / "jobs")]
    assert slurm_train.main([*options, script, "--config-file", "c", "KEY", "1"]) == 0
    sbatch = [line.removeprefix("#SBATCH --") for line in texts[0].splitlines()]
    for line in ("partition=gpu", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=90"):
        assert line in sbatch
    for line in ("constraint=h200", "comment=mine", "signal=USR2@120", "cpus-per-task=8"):
        assert line in sbatch


@pytest.mark.slow
def test_a_job_is_requeued_and_resumes(tmp_path, script):
    pytest.importorskip("submitit")
    jobs = tmp_path / "jobs"
    options = ["--cluster", "local", "--gpus", "0", "--job-dir", str(jobs)]
    assert slurm_train.main([*options, script, str(tmp_path)]) == 0
    wait_for(tmp_path / "pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR2)
    wait_for(tmp_path / "resumed")
    assert (tmp_path / "saved").read_text() == "SIGUSR2"
    assert (tmp_path / "resumed").read_text() == f"--resume {tmp_path}"
