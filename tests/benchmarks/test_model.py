"""Benchmark of the network: complete results, measured on the operations of real training."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks import model_peers
from benchmarks.__main__ import main
from benchmarks.model_captions import endless, recompute
from benchmarks.model_inference import FASTEST, UNFUSED
from benchmarks.model_inputs import trained_outputs, training_samples
from benchmarks.model_memory import peak_bytes
from benchmarks.model_setting import Setting, calibrate, time_in_turns
from benchmarks.model_training import (
    BACKWARD,
    LOSS_PARTS,
    PARTS,
    UPDATE,
    VIEWS,
    GraphCut,
    watched_step,
)
from benchmarks.timing import StopWatch
from tests.modeling.factory import random_batch, tiny_config, tiny_model

from . import programs

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("short_turns")


def numbers_of(folder, cfg, *arguments) -> dict:
    return programs.numbers_of("model", folder, cfg, "--memory-batch", "2", *arguments)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory, short_turns) -> dict:
    folder = tmp_path_factory.mktemp("model")
    return numbers_of(folder, tiny_config(), "--peers", "none", "--batch", "1", "2")


def setting(model) -> Setting:
    return Setting(
        cfg=tiny_config(), model=model, size=64, batches=[1], train_batches=[2], memory_batch=2,
        repeats=1, device=CPU,
    )  # fmt: skip


def test_numbers_are_complete(numbers) -> None:
    assert numbers["settings"]["device"] == "CPU"
    assert numbers["settings"]["batches"] == [1, 2]
    assert {name: len(part["tables"]) for name, part in numbers["parts"].items()} == {
        "forward": 2, "train": 2, "post": 1, "caption": 2, "memory": 1, "activations": 1,
    }  # fmt: skip
    assert {name: len(part["aims"]) for name, part in numbers["parts"].items()} == {
        "forward": 1, "train": 1, "post": 0, "caption": 2, "memory": 1, "activations": 0,
    }  # fmt: skip
    values = [
        value
        for part in numbers["parts"].values()
        for table in part["tables"]
        for row in table["rows"].values()
        for value in row.values()
    ]
    assert all(math.isfinite(value) and value >= 0 for value in values)
    rows = numbers["parts"]["forward"]["tables"][0]["rows"]
    assert rows.keys() == {UNFUSED, "fused", FASTEST}
    assert rows[UNFUSED]["times as fast"] == 1


def test_times_of_parts_add_up_to_the_step(numbers) -> None:
    complete, table = numbers["parts"]["train"]["tables"]
    assert set(complete["rows"]) == {
        f"{precision}, {layout}"
        for precision in ("fp32", "bf16")
        for layout in ("NCHW", "channels_last")
    }
    rows = dict(table["rows"])
    total = rows.pop("together")["ms"]
    # A part without time is a method that is no longer called.
    assert rows.keys() == {*PARTS, *LOSS_PARTS, VIEWS, BACKWARD, UPDATE}
    assert all(row["ms"] > 0 for row in rows.values())
    assert sum(row["ms"] for row in rows.values()) == pytest.approx(total, rel=0.1)
    (aim,) = numbers["parts"]["train"]["aims"]
    assert aim["value"] == pytest.approx(sum(rows[part]["share"] for part in LOSS_PARTS))


def test_memory_contains_gradients(numbers) -> None:
    rows = numbers["parts"]["memory"]["tables"][0]["rows"]
    assert rows["assignment"]["gradients MB"] == 0
    assert all(row["rest MB"] >= 0 for row in rows.values())
    parts = [row["gradients MB"] for name, row in rows.items() if name != "all"]
    assert rows["all"]["gradients MB"] == pytest.approx(sum(parts))


def test_activation_checkpointing_saves_memory(numbers) -> None:
    (table,) = numbers["parts"]["activations"]["tables"]
    kept, checkpointed = table["rows"].values()
    assert kept["share"] == 1
    assert 0 < checkpointed["share"] < 1


def test_parts_without_their_tasks_are_skipped(tmp_path, capsys) -> None:
    cfg = tiny_config(("detection",))
    parts = numbers_of(tmp_path, cfg, "--parts", "train,post,caption")["parts"]
    assert parts.keys() == {"train"}
    printed = capsys.readouterr().out
    assert "post is skipped: this network has no mask, semantic" in printed
    assert "caption is skipped" in printed


@pytest.mark.parametrize("flag", ["--peers", "--rivals"])
def test_installed_peers_are_measured(flag, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        model_peers, "find_spec", lambda name: None if name == "ultralytics" else object()
    )
    network = torch.nn.Conv2d(3, 1, 1)
    peer = model_peers.Peer(0.5, lambda images: lambda: network(images))
    monkeypatch.setitem(model_peers.BUILDERS, "torchvision", lambda *_: ("other", peer))
    peers = [flag, "torchvision,ultralytics"]
    parts = numbers_of(tmp_path, tiny_config(), *peers, "--parts", "forward")["parts"]
    rows = parts["forward"]["tables"][0]["rows"]
    assert rows["other"]["M parameters"] == 0.5
    assert rows["other"]["ms"] < rows[UNFUSED]["ms"]
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("ultralytics is not installed")


def test_configurations_of_ours_are_measured(tmp_path: Path) -> None:
    peers = ("--peers", "COCO/v9_t.yaml", "--parts", "forward")
    parts = numbers_of(tmp_path, tiny_config(), *peers)["parts"]
    row = parts["forward"]["tables"][0]["rows"]["COCO/v9_t.yaml, fused, channels_last"]
    assert row["M parameters"] == pytest.approx(2.442624)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "detectron2"])
def test_peers_run(name, tmp_path) -> None:
    (peer,) = model_peers.build_peers([name], size=64, device=CPU, work=tmp_path).values()
    assert 44 < peer.million_parameters < 47
    with torch.no_grad():
        assert peer.make_job(torch.rand(2, 3, 64, 64) * 255)() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "65"], "--size must be a multiple of 32, not 65"),
        (["--size", "0"], "0 is not a positive number"),
        (["--size", "big"], "big is not a positive number"),
        (["--parts", "forward,fast"], "fast is not one of forward, train, post"),
        (["--peers", "yolo"], "yolo is not one of torchvision"),
        (["--config-file", "none.yaml"], "none.yaml"),
        (["--device", "cuda"], "PyTorch finds no GPU"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tmp_path / "config.yaml"
    config.write_text(tiny_config().dump())
    with pytest.raises(SystemExit) as stop:
        main(["model", "--config-file", str(config), *arguments])
    assert stop.value.code
    error = stop.value.code if isinstance(stop.value.code, str) else capsys.readouterr().err
    assert message in error.strip().splitlines()[-1]


def test_number_of_threads_is_restored(tmp_path) -> None:
    before = torch.get_num_threads()
    numbers = numbers_of(tmp_path, tiny_config(), "--threads", str(before + 1), "--parts", "memory")
    assert numbers["settings"]["threads"] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("beam_size", [1, 3])
def test_recomputed_and_cached_captions_are_equal(beam_size) -> None:
    model = tiny_model(("caption",)).double().eval()
    head = endless(model.caption_head)
    tokens = head(
        {"p5": torch.randn(2, model.backbone.output_shape()["p5"].channels, 2, 3).double()}
    )
    options = {"beam_size": beam_size, "max_tokens": 7}
    fast, slow = head.generate(tokens, **options), recompute(head, tokens, **options)
    assert torch.equal(fast.ids, slow.ids)
    assert torch.allclose(fast.scores, slow.scores)
    assert fast.lengths.tolist() == [7, 7]  # no caption ends early


def test_watched_step_has_the_gradients_of_a_plain_step() -> None:
    plain, split = tiny_model(), tiny_model()
    samples = random_batch()
    torch.manual_seed(0)
    sum(plain(samples).values()).backward()
    optimizer = torch.optim.SGD(split.parameters(), lr=1.0)
    before = {name: value.detach().clone() for name, value in split.named_parameters()}
    torch.manual_seed(0)
    watch = StopWatch()
    watched_step(setting(split), split, samples, optimizer, watch=watch, cut=GraphCut())
    after = dict(split.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.allclose(before[name] - after[name], parameter.grad, atol=1e-5), name
    assert "forward" not in vars(split.detection_head)  # nothing stays patched


def test_synthetic_samples_resemble_coco() -> None:
    model = tiny_model()
    samples = training_samples(setting(model)._replace(size=640), 20)
    assert samples[0]["image"].shape == (3, 640, 640)
    areas = torch.cat([sample["instances"].gt_masks.tensor.sum(dim=(1, 2)) for sample in samples])
    boxes = torch.cat([sample["instances"].gt_boxes.area() for sample in samples])
    assert 0.25 < (boxes < 32**2).float().mean() < 0.55
    large = boxes > 96**2
    assert 0.1 < large.float().mean() < 0.4
    filled = areas[large] * 16 / boxes[large]
    assert filled.min() > 0.6  # an ellipse fills pi / 4 of its box
    assert filled.max() < 0.9
    losses = model(training_samples(setting(model), 2))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_synthetic_outputs_have_overlapping_boxes() -> None:
    model = tiny_model().eval()
    with torch.no_grad():
        raw = trained_outputs(model.raw_outputs(torch.zeros(1, 3, 160, 160)))
    candidates = int((raw.detection.logits.sigmoid() > 0.001).sum())
    (found,) = model.detection_head.inference(raw.detection)
    assert candidates > 1000
    assert len(found) < candidates / 3
    assert found.scores.max() > 0.5


def test_peak_memory_excludes_freed_tensors() -> None:
    def job() -> None:
        first = torch.zeros(1000, 1000)  # 4 MB
        second = first + 1
        del first
        third = second + 1
        del second, third

    assert peak_bytes(job, CPU) == pytest.approx(8e6, rel=0.01)


def test_jobs_are_interleaved(monkeypatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    calls: list[str] = []
    jobs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = time_in_turns(jobs, repeats=2, device=CPU)
    assert calls == ["a", "a", "b", "b", "a", "b", "a", "b"]
    assert times == {"a": [1, 1], "b": [1, 1]}


def test_calibration_keeps_outputs_from_vanishing() -> None:
    model = tiny_model().eval()
    images = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        before = model.raw_outputs(images).mask.coefficients.std()
        calibrate(model, lambda: model.raw_outputs(images))
        after = model.raw_outputs(images).mask.coefficients.std()
    assert after > 100 * before
    assert not model.training
    assert model.backbone.bottom_up.stem[0].norm.momentum == 0.03


def test_stop_watch_uses_a_given_clock() -> None:
    clock = iter(range(0, 100, 7))
    watch = StopWatch(lambda: next(clock))
    watch.wrap(lambda: None, "part")()
    assert watch.seconds == {"part": 7}
