#!/usr/bin/env python3
"""Install detectron2 into the Python that runs this script.

An importable detectron2 (for instance an official build) is left unchanged. Otherwise
detectron2 0.6 is built from the package "pb1-detectron2": the Python files of the official v0.6 tag
without the C++ files, patched for current libraries. In this build, rotated boxes and deformable
convolution raise an ImportError on a GPU, and COCOEvaluator uses pycocotools instead of its C++
copy. Install PyTorch and torchvision first. The script can be run repeatedly.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SDIST = (
    "pb1-detectron2==0.6 --hash=sha256:"
    "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
)
# Installed in a temporary folder, so that the user's pip and setuptools do not change. pip 26.3
# rejects this sdist, because an unused extra (panopticapi) is declared by URL.
TOOLS = ["pip==26.2.1", "setuptools==80.9.0"]

# (files, regular expression, replacement). Each must match at least once.
PATCHES = [
    # NumPy 1.24 removed its aliases for builtin types.
    ("**/*.py", r"\bnp\.(bool|int|float|str)\b", r"\1"),
    # Pillow 10 removed Image.LINEAR, an alias for BILINEAR.
    ("data/transforms/transform.py", r"\bImage\.LINEAR\b", "Image.BILINEAR"),
    # setuptools 81 removed pkg_resources, and a virtual environment may have no setuptools.
    ("model_zoo/model_zoo.py", r"import pkg_resources\n", ""),
    (
        "model_zoo/model_zoo.py",
        r'pkg_resources\.resource_filename\(\s*"[\w.]+", ',
        "os.path.join(os.path.dirname(__file__), ",
    ),
    # Python 3.11: random.sample rejects sets (it is called when a dataset mapper returns None).
    ("data/common.py", r"sample\((self\._fallback_candidates),", r"sample(list(\1),"),
    # PyTorch 2 renamed the base class of schedulers; the state of the old one is not saved.
    ("*/*.py", r"\blr_scheduler\._LRScheduler\b", "lr_scheduler.LRScheduler"),
    # PyTorch 2 deprecates typed storages, and meshgrid without `indexing`.
    ("utils/comm.py", r" *storage = torch\.ByteStorage.*\n", ""),
    ("utils/comm.py", r"ByteTensor\(storage\)", "frombuffer(bytearray(buffer), dtype=torch.uint8)"),
    ("modeling/anchor_generator.py", r"meshgrid\(shifts_y, shifts_x", r'\g<0>, indexing="ij"'),
    # PyTorch 2 has no Caffe2; the rest of detectron2.export does not need it.
    ("export/__init__.py", r"from \.api import \*\n", ""),
    # launch() without GPUs uses Gloo, as in the official main branch.
    ("engine/launch.py", r" *assert torch\.cuda\.is_available\(\), .*\n", ""),
    ("engine/launch.py", r'"NCCL"', '"NCCL" if torch.cuda.is_available() else "GLOO"'),
    ("engine/launch.py", r"assert num_gpus.*\n +", "if torch.cuda.is_available():\n        "),
    # No compiled operators: layers that need them fail when they are called, not when imported.
    ("layers/*.py", r"from detectron2 import _C\n", "from detectron2 import _missing as _C\n"),
    (
        "layers/nms.py",
        r"( *)return torch\.ops\.detectron2\.nms_rotated",
        r"\1from detectron2 import _missing\n\n\1return _missing.nms_rotated",
    ),
    (
        "evaluation/coco_evaluation.py",
        r"from detectron2\.evaluation\.fast_eval_api import (\w+)\n",
        r"\1 = COCOeval\n",
    ),
]
NEW_FILES = {
    # Importing _C raises an ImportError, as in any build without it, with an explanation.
    "detectron2/_C.py": "from detectron2._missing import TEXT\n\nraise ImportError(TEXT)\n",
    "detectron2/_missing.py": """TEXT = "this build of detectron2 has no compiled operators"


def __getattr__(name):
    raise (AttributeError if name[:2] == "__" else ImportError)(f"detectron2._C.{name}: {TEXT}")
""",
    # With the version 0.6, pip would not replace this build with an official one later.
    "setup.py": '''from setuptools import find_packages, setup

setup(
    name="detectron2",
    version="0.6+pure",
    description="detectron2 0.6 without compiled operators, patched for current libraries",
    license="Apache-2.0",
    packages=find_packages(include=["detectron2", "detectron2.*"]),
    package_data={"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]},
    install_requires="""Pillow>=7.1 matplotlib pycocotools>=2.0.2 termcolor>=1.1 yacs>=0.1.8
        tabulate cloudpickle tqdm>4.29.0 tensorboard fvcore>=0.1.5,<0.1.6 iopath>=0.1.7,<0.1.10
        omegaconf>=2.1,<2.4 hydra-core>=1.1 black packaging""".split(),
)
''',
}


def run(*command, **kwargs):
    print("+", *command, flush=True)
    subprocess.run(command, check=True, **kwargs)


def imports(modules, folder, **kwargs):
    code = [sys.executable, "-c", f"import {modules}"]
    return subprocess.run(code, cwd=folder, **kwargs).returncode == 0


def unpack_and_patch(sdist, folder):
    # The first releases of Python 3.10 and 3.11 have no filter. The hash is checked in any case.
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = folder.iterdir()
    for project in source.glob("projects/*/*"):
        project.rename(source / "detectron2" / "projects" / project.name)
    for files, old, new in PATCHES:
        matches = 0
        for file in (source / "detectron2").glob(files):
            text, count = re.subn(old, new, file.read_text("utf-8"))
            file.write_text(text, "utf-8")
            matches += count
        assert matches, f"pattern not found: {old}"
    for name, text in NEW_FILES.items():
        (source / name).write_text(text, "utf-8")
    return str(source)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wheel-dir", type=Path, help="write the wheel to this folder and do not install it"
    )
    args = parser.parse_args()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as tmp:
        if not args.wheel_dir and imports("detectron2.engine", tmp, stderr=subprocess.DEVNULL):
            return print("detectron2 is already installed.")
        if not imports("torch, torchvision", tmp):
            sys.exit("Install PyTorch and torchvision first.")
        run(*pip, "install", "-q", "--target", f"{tmp}/tools", *TOOLS)
        env = dict(os.environ, PYTHONPATH=f"{tmp}/tools")
        wheels = args.wheel_dir or Path(tmp, "wheel")
        Path(tmp, "sdist.txt").write_text(SDIST)
        run(
            *pip,
            "download",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--require-hashes",
            "-d",
            f"{tmp}/sdist",
            "-r",
            f"{tmp}/sdist.txt",
            env=env,
        )
        (sdist,) = Path(tmp, "sdist").iterdir()
        run(
            *pip,
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(wheels),
            unpack_and_patch(sdist, Path(tmp, "source")),
            env=env,
        )
        if not args.wheel_dir:
            run(*pip, "install", *map(str, wheels.iterdir()))
            if not imports("detectron2.engine", tmp):
                sys.exit("detectron2 is installed but cannot be imported.")


if __name__ == "__main__":
    main()
