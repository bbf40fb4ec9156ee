"""Benchmark of captions: complete results, and the same network in both packages."""

import math

import pytest
import torch

from benchmarks import caption_peer
from benchmarks.caption import make_jobs
from benchmarks.caption_peer import Peer
from benchmarks.model_captions import endless, visual_tokens
from tests.modeling.factory import tiny_config, tiny_model
from yolor_d2.modeling.heads import TransformerCaptionHead, VisualTokens

from . import programs

pytestmark = pytest.mark.usefixtures("short_turns")


def numbers_of(folder, cfg, *arguments) -> dict:
    return programs.numbers_of("caption", folder, cfg, "--tokens", "4", *arguments)


def network() -> tuple[TransformerCaptionHead, VisualTokens]:
    """A head whose captions never end, and visual tokens; one image has padding."""
    model = tiny_model(("caption",)).double().eval()
    head = endless(model.caption_head)
    for parameter in head.parameters():  # also biases and norms, which are 0 and 1 otherwise
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = visual_tokens(model.float(), model.caption_head, 3, size=96)
    padding = tokens.padding.clone()
    padding[0, 5:] = True
    return head, VisualTokens(tokens.tokens.double(), padding)


def test_numbers_are_complete_without_a_peer(tmp_path) -> None:
    numbers = numbers_of(tmp_path, tiny_config(), "--peer", "none", "--batch", "1", "2")
    assert numbers["settings"]["transformers"] is None
    (parts,) = numbers["networks"].values()
    assert parts["aims"] == []
    assert len(parts["tables"]) == 2
    for table in parts["tables"]:
        assert table["rows"].keys() == {
            "greedy, recomputed", "greedy, ours", "beam 5, recomputed", "beam 5, ours",
        }  # fmt: skip
        values = [value for row in table["rows"].values() for value in row.values()]
        assert all(math.isfinite(value) and value > 0 for value in values)
        assert table["rows"]["greedy, ours"]["ours is faster"] == 1


def test_absent_peer_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(caption_peer, "find_spec", lambda _: None)
    numbers = numbers_of(tmp_path, tiny_config(), "--batch", "1")
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("transformers is not installed")
    assert numbers["settings"]["transformers"] is None


def test_captions_of_wrong_length_are_refused(monkeypatch) -> None:
    head, tokens = network()
    jobs = make_jobs(head, None, tokens, beam_size=2, new_tokens=5)
    assert [job().lengths.tolist() for job in jobs.values()] == [[6, 6, 6]] * 2
    generate = head.generate
    monkeypatch.setattr(head, "generate", lambda *_, **__: generate(tokens, max_tokens=3))
    with pytest.raises(RuntimeError, match=r"ours: \[3, 3, 3\] tokens instead of 6"):
        make_jobs(head, None, tokens, beam_size=1, new_tokens=5)


@pytest.mark.parametrize(
    ("tasks", "arguments", "message"),
    [
        (("caption",), ["--batch", "0"], "0 is not a positive number"),
        (("caption",), ["--device", "cuda"], "PyTorch finds no GPU"),
        (("detection",), ["--peer", "none"], "the network has no TransformerCaptionHead"),
    ],
)
def test_errors_are_one_line(tasks, arguments, message, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        numbers_of(tmp_path, tiny_config(tasks), *arguments)
    error = stop.value.code if isinstance(stop.value.code, str) else capsys.readouterr().err
    assert message in error.strip().splitlines()[-1]


def test_peer_generates_the_same_captions() -> None:
    pytest.importorskip("transformers")
    head, tokens = network()
    peer = Peer(head)
    ours = head.generate(tokens, beam_size=1, max_tokens=8).ids
    others = peer.generate(tokens, beam_size=1, new_tokens=7)
    assert torch.equal(ours[:, :7], others[:, :7])  # the last token of ours is the end token
    assert peer.generate(tokens, beam_size=3, new_tokens=7).shape == (3, 8)


def test_installed_peer_is_measured(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    numbers = numbers_of(tmp_path, tiny_config(), "--batch", "1")
    assert numbers["settings"]["transformers"] == transformers.__version__
    (parts,) = numbers["networks"].values()
    rows = parts["tables"][0]["rows"]
    assert [aim["value"] for aim in parts["aims"]] == [
        rows[f"{search}, transformers"]["ours is faster"] for search in ("greedy", "beam 5")
    ]


def test_peer_requires_a_tied_head(tmp_path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SystemExit, match="TIED is False"):
        numbers_of(tmp_path, tiny_config(("caption",), "MODEL.CAPTION_HEAD.TIED", False))
