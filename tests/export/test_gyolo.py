"""Export of a network with the parts of gyolo, and its runner."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolor_d2.data.views.transforms import resize_long_side, to_planes
from yolor_d2.export import bundle
from yolor_d2.inference.loading import load_network
from yolor_d2.tokenizer import Tokenizer
from yolor_d2.tools import export

from ..modeling.gyolo import GYOLO
from .test_export import ONNX, eager, picture, write_checkpoint

WORDS = Tokenizer("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopq"]).encode())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder, *GYOLO, tokenizer=WORDS)


@pytest.fixture(scope="module")
def runner(checkpoint: Path) -> Any:
    for name in ONNX:
        pytest.importorskip(name)
    folder = checkpoint.parent / "onnx"
    # Fails if an output differs from the network's.
    assert export.main(["--weights", str(checkpoint), "--output", str(folder)]) == 0
    return bundle.load_runner().Runner(folder, threads=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runner_results_equal_the_networks(checkpoint: Path, runner: Any) -> None:
    model, size = eager(checkpoint)
    for seed, (height, width) in enumerate([(96, 128), (260, 190)]):
        image = picture((height, width), seed)
        resized = torch.from_numpy(to_planes(resize_long_side(image, size)))
        expected = model([{"image": resized, "height": height, "width": width}])[0]
        found = runner(image)

        # Untrained, many scores are almost equal.
        scores = expected["instances"].scores
        np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
        assert (found["semantic"] == expected["sem_seg"].argmax(0).numpy()).mean() > 0.999
        assert found["caption_ids"] == expected["caption_ids"]
        assert found["caption"] == expected["caption"]
        assert found["caption_score"] == pytest.approx(expected["caption_score"], abs=1e-4)


def test_torchscript(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--weights", checkpoint, "--output", tmp_path, "--format", "torchscript"]
    assert export.main([*map(str, arguments)]) == 0


def test_captions_alone_need_the_other_heads(checkpoint: Path) -> None:
    captions = load_network(checkpoint, device="cpu", tasks=["caption"])
    assert set(captions.model.heads) == {"detection", "semantic", "caption"}
    assert captions.tasks == ("caption",)
    whole = load_network(checkpoint, device="cpu").model
    image = torch.from_numpy(to_planes(resize_long_side(picture((96, 128), 0), 128)))
    one, other = (m([{"image": image}])[0] for m in (captions.model, whole))
    assert one["caption_ids"] == other["caption_ids"]
