"""Check versions, devices, detectron2, optional packages and disk space; run a small network.

    yolor-d2 doctor

Prints a line per check and a solution per problem. The toy network with random weights does one
training step and one prediction on each type of device, in about ten seconds. Exit code 1: a
requirement is missing or does not work.

`yolor-d2 doctor` also works if yolor_d2 cannot be imported.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from pathlib import Path
from typing import NamedTuple

# The console script runs this file without importing the package, which may be what is broken.
# So nothing of yolor_d2, and nothing that is installed beside Python, is imported up here.

PACKAGE = "yolor_d2"
EXTRAS = ("export", "openvino", "supervision", "wandb", "slurm", "completion")
TINY_FREE_DISK = 5  # GiB; a checkpoint of the COCO network takes about one
GIB = 2**30


class Finding(NamedTuple):
    """A line of the report."""

    name: str
    text: str
    problem: str = ""  # what to do about it


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="yolor-d2 doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="skip the network, which takes ten seconds"
    )
    parser.add_argument(
        "--licenses",
        action="store_true",
        help="only list the versions and licenses of all installed packages",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; returns the exit code."""
    args = make_parser().parse_args(arguments)
    if args.licenses:
        print("\n".join(licenses()))
        return 0
    problems = []
    for finding in check(quick=args.quick):
        print(f"{finding.name:<15}{finding.text}", flush=True)
        if finding.problem:
            problems.append(finding)
    for finding in problems:
        print(f"problem: {finding.name}: {finding.problem}")
    if not problems:
        print("no problems")
    return 1 if problems else 0


def licenses() -> list[str]:
    """A line for each installed package: name, version and license, as its metadata state them."""
    lines = set()
    for package in distributions():
        fields = package.metadata
        classifiers = (text.split(" :: ") for text in fields.get_all("Classifier") or ())
        classified = ", ".join(words[-1] for words in classifiers if words[0] == "License")
        # Some packages have the whole text as their license; its first line is the title.
        title = (fields["License"] or "").strip().partition("\n")[0]
        file = f"in its {fields['License-File']}" if fields["License-File"] else "not stated"
        stated = fields["License-Expression"] or classified or title or file
        lines.add(f"{fields['Name']:<32}{package.version:<24}{stated}")
    return sorted(lines, key=str.lower)


def check(*, quick: bool) -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, {platform.platform()}")
    yield from check_requirements()
    yield check_detectron2()
    yield from check_devices()
    yield from list_extras()
    java = "found" if shutil.which("java") else "not found: METEOR and SPICE are skipped"
    yield Finding("java", java)
    yield from check_folders()
    if not quick:
        yield check_network()


def requirements(extra: str = "") -> list[tuple[str, str]]:
    """Names of required packages, each with the reason why it is not satisfied or "".

    Args:
        extra: of yolor_d2; "": the package itself.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return []
    found = []
    for line in requires(PACKAGE) or ():
        each = Requirement(line)
        in_extra = each.marker is not None and "extra" in str(each.marker)
        if in_extra != bool(extra) or (each.marker and not each.marker.evaluate({"extra": extra})):
            continue
        try:
            installed = version(each.name)
        except PackageNotFoundError:
            found.append((each.name, "not installed"))
            continue
        fits = each.specifier.contains(installed, prereleases=True)
        found.append((each.name, "" if fits else f"{installed}, but {each.specifier} is needed"))
    return found


def check_requirements() -> Iterator[Finding]:
    try:
        yield Finding(PACKAGE, f"{version(PACKAGE)}, {Path(__file__).parents[1]}")
        unsatisfied = [f"{name}: {why}" for name, why in requirements() if why]
    except PackageNotFoundError:
        yield Finding(PACKAGE, f"not installed, {Path(__file__).parents[1]}")
        unsatisfied = []
    for name in ("torch", "torchvision", "numpy", "opencv-python-headless"):
        try:
            yield Finding(name.removesuffix("-python-headless"), version(name))
        except PackageNotFoundError:
            yield Finding(name.removesuffix("-python-headless"), "not installed")
    if unsatisfied:
        fix = f"{'; '.join(unsatisfied)}: pip install {PACKAGE} again"
        yield Finding("requirements", f"{len(unsatisfied)} not satisfied", fix)


def check_detectron2() -> Finding:
    try:
        detectron2 = importlib.import_module("detectron2")
    except ImportError as error:
        fix = "install it, or run `python install_detectron2.py` in a checkout of yolor_d2"
        return Finding("detectron2", f"cannot be imported: {error}", fix)
    build = getattr(detectron2, "__version__", "unknown version")
    try:
        importlib.import_module("detectron2._C")
    except ImportError:
        return Finding("detectron2", f"{build}, without compiled operators (none is needed)")
    return Finding("detectron2", f"{build}, with compiled operators")


def check_devices() -> Iterator[Finding]:
    yield Finding("cpu", f"{os.cpu_count()} cores, {memory()}")
    try:
        import torch
    except ImportError as error:
        yield Finding("gpu", "unknown", f"torch cannot be imported: {error}")
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding(f"gpu {index}", f"{device.name}, {device.total_memory / GIB:.0f} GiB")
    if not torch.cuda.device_count():
        cuda = torch.version.cuda
        yield Finding(
            "gpu", f"none (torch is built {f'for CUDA {cuda}' if cuda else 'without CUDA'})"
        )


def memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown memory"
    return f"{size / GIB:.0f} GiB of memory"


def list_extras() -> Iterator[Finding]:
    """Optional parts; what is missing is no problem."""
    try:
        extras = {extra: requirements(extra) for extra in EXTRAS}
    except PackageNotFoundError:
        return
    for extra, needed in extras.items():
        if missing := ", ".join(name for name, why in needed if why):
            yield Finding(f"[{extra}]", f"no {missing}: pip install '{PACKAGE}[{extra}]'")
        elif needed:
            yield Finding(f"[{extra}]", "installed")


def check_folders() -> Iterator[Finding]:
    data = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    text = "exists" if data.is_dir() else "does not exist (needed by registered data sets only)"
    yield Finding("data", f"{data} {text}; DETECTRON2_DATASETS chooses it")
    free = shutil.disk_usage(".").free / GIB
    problem = f"less than {TINY_FREE_DISK} GiB for checkpoints" if free < TINY_FREE_DISK else ""
    yield Finding("disk", f"{free:.0f} GiB free in the current folder", problem)


def check_network() -> Finding:
    start = time.perf_counter()
    try:
        devices = run_network()
    except Exception as error:  # any failure is the answer
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding("network", "failed", line)
    seconds = time.perf_counter() - start
    return Finding("network", f"trains and predicts on {', '.join(devices)} ({seconds:.0f} s)")


def run_network() -> list[str]:
    """Train the toy network for a step and predict; returns the devices.

    Raises:
        RuntimeError: a loss is not finite.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        sys.path.insert(0, str(Path(__file__).parents[2]))
    import torch
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances

    from yolor_d2.model_zoo import get_config

    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        cfg = get_config("toy/yolor_elan_n_toy.yaml")
        cfg.MODEL.DEVICE = device
        model = build_model(cfg)
        image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
        objects = Instances((128, 128))
        objects.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 90.0, 100.0]]))  # (1, 4), x1 y1 x2 y2
        objects.gt_classes = torch.tensor([0])
        losses = model.train()([{"image": image, "weak_image": image, "instances": objects}])
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        if not torch.isfinite(total):
            raise RuntimeError(f"the loss is {total.item()} on {device}")
        model.eval()([{"image": image}])
    return devices


if __name__ == "__main__":
    sys.exit(main())
