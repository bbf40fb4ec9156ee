"""Two processes, each with a GPU of its own: NCCL, synchronized batch norms, training steps."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import Tensor, distributed, nn

from ..model_setting import Aim, Result, Row, Setting, Table, time_in_turns, time_rows
from .checks import difference
from .measurements import SkippedError
from .steps import make_step

PROCESSES = 2
MIB = 2**20
ALL_REDUCE_MIB = 64
MAX_DIFFERENCE = 1e-4


def measure_processes(setting: Setting) -> Iterator[Result]:
    """All-reduce, synchronized batch norms and training steps in two processes."""
    if setting.on_gpu and torch.cuda.device_count() < PROCESSES:
        raise SkippedError("this machine has one GPU")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.pt"
        network = setting._replace(model=setting.model.cpu(), device=torch.device("cpu"))
        arguments = (network, setting.device.type, str(file))
        launch(_measure, PROCESSES, dist_url="auto", args=arguments)
        found = torch.load(file)
    tables = [Table(title, rows) for title, rows in found["tables"].items()]
    aims = [Aim(*aim) for aim in found["aims"]]
    yield Result(tables, aims)


def _measure(setting: Setting, device_type: str, file: str) -> None:
    """In each process; the first one writes the results."""
    device = torch.device(f"cuda:{comm.get_rank()}" if device_type == "cuda" else "cpu")
    setting = setting._replace(model=setting.model.to(device), device=device)
    tables: dict[str, dict[str, Row]] = {}
    values = torch.ones(ALL_REDUCE_MIB * MIB // 4, device=device)
    times = _steady({"all-reduce": lambda: distributed.all_reduce(values)}, setting)
    rows = time_rows(times)
    for row in rows.values():
        row["GB/s"] = values.nbytes / row["ms"] / 1e6
    tables[f"all-reduce of {ALL_REDUCE_MIB} MiB, {PROCESSES} processes"] = rows
    aims = []
    if setting.on_gpu:
        found = _synchronized_norm(device)
        text = f"synchronized batch norms differ from one process by at most {MAX_DIFFERENCE:g}"
        aims.append(Aim(text, found, found <= MAX_DIFFERENCE))
    for batch in setting.train_batches:
        step = make_step(setting, batch=batch, sync_bn=setting.on_gpu)
        rows = time_rows(_steady({"bf16, DDP": step.run_step}, setting))
        for row in rows.values():
            row["images/s"] = 1000 * PROCESSES * batch / row["ms"]
        tables[f"training step, {PROCESSES} x {batch} images, {setting.size}"] = rows
    weights = torch.cat([p.detach().flatten() for p in step.model.parameters()])
    other = weights.clone()
    distributed.broadcast(other, src=0)
    gap = comm.all_gather(difference(weights, other))[1]
    aims.append(Aim("both processes have the same weights", gap, gap == 0))
    if comm.is_main_process():
        torch.save({"tables": tables, "aims": [tuple(aim) for aim in aims]}, file)
    comm.synchronize()  # no process exits while another still communicates with it
    distributed.destroy_process_group()
    os._exit(0)  # at a normal exit, a thread of PyTorch sometimes aborts


def _steady(jobs: dict, setting: Setting) -> dict[str, list[float]]:
    """Times of jobs, each of which runs equally often in all processes."""
    return time_in_turns(jobs, repeats=setting.repeats, device=setting.device, calls=3)


def _synchronized_norm(device: torch.device) -> float:
    """Difference of a batch norm over both processes and one that sees all images."""
    torch.manual_seed(0)
    whole = torch.randn(PROCESSES * 4, 8, 16, 16, device=device)
    norm = nn.BatchNorm2d(8).to(device)
    both = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(8).to(device))
    own = slice(4 * comm.get_rank(), 4 * (comm.get_rank() + 1))
    expected: Tensor = norm(whole)[own]
    differences = [difference(both(whole[own]), expected)]
    means = [each.get_buffer("running_mean") for each in (both, norm)]
    differences.append(difference(*means))
    return max(max(each) for each in comm.all_gather(differences))
