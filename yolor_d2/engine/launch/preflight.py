"""Checks before a long run that its processes match and can communicate."""

import hashlib
import logging
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import detectron2
import torch
from detectron2.utils import comm
from tabulate import tabulate
from torch import distributed

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[2]

MAX_CLOCK_SECONDS = 5.0  # larger differences make logs and file times hard to compare
MIN_FREE_GIB = 5.0  # a run of the full model keeps about four checkpoints

ELEMENTS = 4 << 20  # 16 MiB, a tenth of the full model's gradients
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of a process. Those of the program must be equal on all processes."""

    host: str
    code: str
    config: str
    torch: str
    detectron2: str
    gpu_name: str
    gpu_count: int
    gpu: str  # UUID of the GPU of this process; "": none
    clock: float  # seconds since 1970, read by all at the same time
    free_gib: float  # in the output folder
    sees_folder: bool  # whether the output folder is that of the main process
    sums_correctly: bool  # whether all-reduce returned the correct sum


def check_cluster(*, config_text: str, output_dir: str) -> bool:
    """Compare the processes of a run and log a table of them; all must call this.

    Args:
        config_text: the configuration of this process.
        output_dir: its output folder, which exists.

    Returns:
        Whether a run can start, on all processes. Warnings are not counted.
    """
    folder = Path(output_dir)
    sums_correctly, sees_folder = reduces_correctly(), shares_folder(folder)
    milliseconds = reduce_milliseconds()
    own = own_facts(config_text, folder, sees_folder=sees_folder, sums_correctly=sums_correctly)
    facts = comm.all_gather(own)
    problems = find_problems(facts)
    if comm.is_main_process():
        logger.info("%d processes\n%s", len(facts), table(facts))
        size = ELEMENTS * 4 >> 20
        logger.info("all-reduce of %d MiB: %.1f ms", size, milliseconds)
        for line in find_warnings(facts):
            logger.warning("%s", line)
        for line in problems:
            logger.error("%s", line)
        logger.info("the cluster is %s", "not ready" if problems else "ready")
    return not problems


def own_facts(config_text: str, folder: Path, *, sees_folder: bool, sums_correctly: bool) -> Facts:
    gpu = torch.cuda.get_device_properties("cuda") if torch.cuda.is_available() else None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    comm.synchronize()  # so that the clocks are read at the same time
    return Facts(
        host=socket.gethostname(),
        code=_short_hash(_sources(PACKAGE)),
        config=_short_hash([config_text.encode()]),
        torch=torch.__version__,
        detectron2=_short_hash(_sources(Path(detectron2.__file__).parent)),
        gpu_name=gpu.name if gpu else "",
        gpu_count=torch.cuda.device_count(),
        gpu=str(gpu.uuid) if gpu else "",
        clock=time.time(),
        free_gib=shutil.disk_usage(there).free / 2**30,
        sees_folder=sees_folder,
        sums_correctly=sums_correctly,
    )


def find_problems(facts: Sequence[Facts]) -> list[str]:
    """Problems that prevent a run, one line each, with the numbers of the processes."""
    fields: dict[str, Callable[[Facts], object]] = {
        "code of yolor_d2": lambda f: f.code,
        "configuration": lambda f: f.config,
        "torch": lambda f: f.torch,
        "detectron2": lambda f: f.detectron2,
        "kind of GPU": lambda f: f.gpu_name,
        "number of visible GPUs": lambda f: f.gpu_count,
    }
    problems = [line for name, get in fields.items() for line in _differing(name, facts, get)]
    places: dict[tuple[str, str], list[int]] = {}
    for rank, fact in enumerate(facts):
        if fact.gpu:
            places.setdefault((fact.host, fact.gpu), []).append(rank)
    problems += [
        f"processes {_listed(ranks)} use the same GPU of {host}"
        for (host, _), ranks in places.items()
        if len(ranks) > 1
    ]
    outside = [rank for rank, fact in enumerate(facts) if not fact.sees_folder]
    if outside:
        problems.append(f"processes {_listed(outside)} do not see the output folder of process 0")
    wrong = [rank for rank, fact in enumerate(facts) if not fact.sums_correctly]
    if wrong:
        problems.append(f"all-reduce returns wrong sums on processes {_listed(wrong)}")
    return problems


def find_warnings(facts: Sequence[Facts]) -> list[str]:
    """Problems that do not prevent a run, one line each."""
    warnings = []
    clocks = [fact.clock for fact in facts]
    if max(clocks) - min(clocks) > MAX_CLOCK_SECONDS:
        late, early = clocks.index(min(clocks)), clocks.index(max(clocks))
        warnings.append(
            f"the clock of {facts[early].host} is {max(clocks) - min(clocks):.0f} s ahead of "
            f"that of {facts[late].host}"
        )
    if facts[0].free_gib < MIN_FREE_GIB:
        warnings.append(f"only {facts[0].free_gib:.1f} GiB are free in the output folder")
    return warnings


def table(facts: Sequence[Facts]) -> str:
    """A table with a line for each process."""
    first = min(fact.clock for fact in facts)
    rows = [
        {
            "rank": rank,
            "host": fact.host,
            "yolor_d2": fact.code,
            "config": fact.config,
            "torch": fact.torch,
            "detectron2": fact.detectron2,
            "GPUs": f"{fact.gpu_count} x {fact.gpu_name}" if fact.gpu else "none",
            "clock": f"+{fact.clock - first:.1f} s",
            "free": f"{fact.free_gib:.0f} GiB",
            "shared folder": "yes" if fact.sees_folder else "NO",
        }
        for rank, fact in enumerate(facts)
    ]
    return tabulate(rows, headers="keys")


def shares_folder(folder: Path) -> bool:
    """Whether this process can read a file that the main process writes."""
    secret = comm.all_gather(uuid.uuid4().hex)[0]
    path = folder / f".preflight_{secret}"
    if comm.is_main_process():
        path.write_text(secret)
    comm.synchronize()
    found = path.is_file() and path.read_text() == secret
    comm.synchronize()
    if comm.is_main_process():
        path.unlink()
    return found


def reduces_correctly() -> bool:
    """Whether all-reduce returns the correct sum."""
    size = comm.get_world_size()
    total = torch.full((1000,), comm.get_rank() + 1.0, device=_device())
    _all_reduce(total)
    return bool((total == size * (size + 1) / 2).all())


def reduce_milliseconds() -> float:
    """Duration of an all-reduce, without the first one."""
    tensor = torch.zeros(ELEMENTS, device=_device())
    _all_reduce(tensor)
    _wait()
    start = time.perf_counter()
    for _ in range(REPEATS):
        _all_reduce(tensor)
    _wait()
    return (time.perf_counter() - start) / REPEATS * 1000


def _sources(package: Path) -> Iterable[bytes]:
    for file in sorted(package.rglob("*.py")):
        yield str(file.relative_to(package)).encode()
        yield file.read_bytes()


def _short_hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:12]


def _differing(name: str, facts: Sequence[Facts], value_of: Callable[[Facts], object]) -> list[str]:
    """A line with the processes whose value differs from the most common one, if any."""
    values = [value_of(fact) for fact in facts]
    usual, _ = Counter(values).most_common(1)[0]
    odd = [rank for rank, value in enumerate(values) if value != usual]
    if not odd:
        return []
    found = ", ".join(sorted({str(values[rank]) or "none" for rank in odd}))
    return [f"{name}: {found} on processes {_listed(odd)}, {usual or 'none'} on the others"]


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))


def _device() -> torch.device:
    """The device of the backend of the processes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _all_reduce(tensor: torch.Tensor) -> None:
    if comm.get_world_size() > 1:
        distributed.all_reduce(tensor)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
