"""Packaging of yolor_d2.

detectron2 is not on PyPI, so it is no requirement here: importing yolor_d2 checks for it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "yolor_d2/__init__.py").read_text()).group(1)
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.29"]
EXPORT = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"]

setup(
    name="yolor_d2",
    version=VERSION,
    description="YOLOR-based multi-task learning (boxes, masks, semantics, captions) on detectron2",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=[
        *("yolo", "yolor", "yolov7", "yolov9", "gelan", "detectron2", "multi-task learning"),
        *("object detection", "instance segmentation", "semantic segmentation"),
        *("panoptic segmentation", "image captioning"),
    ],
    python_requires=">=3.11",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    # configs/ stays at the top level, as in detectron2, and is installed as a package.
    packages=[*find_packages(include=["yolor_d2", "yolor_d2.*"]), "yolor_d2.configs"],
    py_modules=["yolor_d2_cli"],
    entry_points={"console_scripts": ["yolor-d2=yolor_d2_cli:main"]},
    package_dir={"yolor_d2.configs": "configs"},
    package_data={
        # The runner is not a package: its files are copied beside exported graphs.
        "yolor_d2": ["py.typed", "export/runner/*.py", "web/static/*"],
        "yolor_d2.configs": ["**/*.yaml", "**/*.py"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "opencv-python-headless>=4.11.0.86",  # GIF files need 4.12, rotated WebP files 4.13
        "pillow>=10",
        "faster-coco-eval>=1.6",
        "fvcore>=0.1.5.post20221221,<0.1.6",  # GFLOPs: the first 0.1.5 counts others
        "matplotlib>=3.8",
        "omegaconf>=2.3,<2.4",  # as detectron2
        "pycocoevalcap>=1.2",
        "pycocotools>=2.0.8",
        "pyyaml>=6.0.1",
        "safetensors>=0.4.5",
        "sentencepiece>=0.2.0",
        "tabulate>=0.9",
        "tensorboard>=2.15",
        "tqdm>=4.66",
    ],
    extras_require={
        "completion": ["shtab>=1.7"],
        "docs": DOCS,
        "export": EXPORT,
        "openvino": [*EXPORT, "openvino>=2025.0"],
        "slurm": ["submitit>=1.5"],
        "supervision": ["supervision>=0.25"],
        "wandb": ["wandb>=0.17"],
        "browser": ["selenium>=4.25"],  # tests of the web page, with Debian's Chromium
        "dev": [
            *EXPORT,
            "openvino>=2025.0",
            "submitit>=1.5",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "mypy>=1.11",
            "pre-commit>=3.7",
            "pytest>=9.2",  # caplog of earlier versions misses loggers that do not propagate
            "pytest-timeout>=2.3.1",
            "pytest-xdist>=3.6.1",
            "ruff>=0.9",
            "setuptools>=70.1",  # a test builds and installs the wheel
            "shtab>=1.7",
        ],
    },
)
