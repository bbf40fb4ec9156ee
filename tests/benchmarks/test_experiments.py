"""The experiments: runs, results, differences, verdicts, and the page of the results."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.experiments import COMMITTED, PAGE, SEEDS
from benchmarks.experiments.bench import Bench, Experiment, Result
from benchmarks.experiments.differences import Scores, verdict
from benchmarks.experiments.page import markdown, replace_section, status
from benchmarks.experiments.scheduling import prepare, remaining_seconds
from benchmarks.experiments.tables import (
    BASELINE,
    BLEU,
    BOX,
    CAP_ENCODER,
    DET_SEG,
    TABLES,
    TASKS,
    Claim,
    Variant,
    variants_of,
)
from benchmarks.experiments.training import (
    CONFIGURATION,
    describe,
    read_specification,
    train,
    write_specification,
)
from yolor_d2.engine.launch.signals import EXIT_SAVED
from yolor_d2.model_zoo import config_folder, load_config

ROOT = Path(__file__).parents[2]
TOY, PAPER = "toy/bench.yaml", "COCO/yolor_elan_mtl_paper.yaml"
SMALL = """
_BASE_: toy/bench.yaml
MODEL:
  YOLOR_ELAN: {WIDTH: 0.125, DEPTH: 0.25}
  CAPTION_HEAD: {DIM: 32, NUM_HEADS: 2, FFN_DIM: 64, DECODER_LAYERS: 1}
INPUT: {STRONG: {SIZE: 64}, WEAK: {SIZE: 64}, TEST_SIZE: 64, CLOSE_MOSAIC_ITERS: 2}
TOKENIZER: {VOCAB_SIZE: 50}
SOLVER: {IMS_PER_BATCH: 4, MAX_ITER: STEPS, WARMUP_ITERS: 2, CHECKPOINT_PERIOD: 1}
TEST: {EVAL_PERIOD: 20, BATCH_SIZE: 4}
LOG: {PICTURES: 0, CURVES: False}
"""


def small_bench(folder: Path, *, steps: int = 4, config_file: str | None = None) -> Bench:
    if config_file is None:
        config_file = str(folder / "small.yaml")
        Path(config_file).write_text(SMALL.replace("STEPS", str(steps)))
    return Bench(config_file, None, None, folder / "runs", folder / "results")


def result(variant: Variant, seed: int, **metrics: float) -> Result:
    keys = {"box": BOX.key, "bleu": BLEU.key}
    return {
        "variant": variant.name,
        "seed": seed,
        "steps": 10,
        "batch": 4,
        "parameters": 1_500_000,
        "evaluations": [{"step": 10, **{keys[name]: value for name, value in metrics.items()}}],
        "seconds": {"training": 130.0, "training_cpu": 120.0, "run": 180.0},
        "machine": {"cpu": "a CPU"},
        "commit": "0123456789abcdef",
        "data": {"toy": "1"},
    }


def test_runs_are_shared_by_tables_and_begin_with_the_first_table() -> None:
    bench = small_bench(Path(), config_file=TOY)
    experiments = list(bench.experiments(TABLES, (1, 2)))
    assert len(experiments) == len(set(experiments)) == 2 * len(variants_of(TABLES))
    first = [(each.variant, each.seed) for each in experiments[:16]]
    assert first == [(variant, seed) for seed in (1, 2) for variant in TASKS.variants]
    names = [variant.name for variant in variants_of(TABLES)]
    assert len(names) == len(set(names))


def test_rows_of_the_paper_are_the_ablations_of_the_configurations() -> None:
    ablations = {path.stem for path in (config_folder() / "COCO/ablations").glob("*.yaml")}
    baseline = {"tasks_all", "aug_asymmetric", "lr_1_1", "cap_decoder_only"}
    variants = {variant.name: variant for variant in variants_of(TABLES)}
    assert ablations - baseline <= variants.keys()
    for name in ablations:
        ours = variants.get(name, BASELINE)
        paper = Experiment(small_bench(Path(), config_file=PAPER), ours, 1).settings()
        for key, value in ours.overrides.items():
            if ours is not CAP_ENCODER:  # as many layers as its decoder
                assert paper.get(key, value) == value, name


def test_all_overrides_fit_the_bench() -> None:
    bench = small_bench(Path(), config_file=TOY)
    settings = [Experiment(bench, variant, 1).settings() for variant in variants_of(TABLES)]
    assert len({json.dumps(each) for each in settings}) == len(settings)  # all differ


def test_a_result_counts_for_its_configuration_only(tmp_path: Path) -> None:
    experiment = Experiment(small_bench(tmp_path), BASELINE, 1)
    assert experiment.result() is None
    experiment.result_file.parent.mkdir(parents=True)
    experiment.result_file.write_text(json.dumps({"settings": experiment.settings()}))
    config = tmp_path / "small.yaml"
    config.write_text(config.read_text() + "DATALOADER: {NUM_WORKERS: 3}\n")
    assert experiment.result() is not None
    config.write_text(config.read_text().replace("MAX_ITER: 4", "MAX_ITER: 5"))
    assert experiment.result() is None


def test_other_steps_and_data_are_another_bench(tmp_path: Path) -> None:
    folders = (tmp_path, tmp_path)
    assert Bench(TOY, None, None, *folders).name == "bench"
    assert Bench(TOY, Path("data/cars.json"), 7, *folders).name == "bench_cars_7_steps"
    cfg = Experiment(Bench(TOY, Path("data/cars.json"), 7, *folders), BASELINE, 3).config()
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.DATASETS.TRAIN) == (3, 7, ("own_train",))


def test_differences_are_paired_by_seed() -> None:
    scores = Scores(
        [
            *(result(BASELINE, 1, box=50.0), result(BASELINE, 2, box=52.0)),
            *(result(DET_SEG, 1, box=47.0), result(DET_SEG, 2, box=48.0)),
            result(CAP_ENCODER, 1, bleu=0.2),
        ]
    )
    found = scores.difference(BASELINE, DET_SEG, BOX)
    assert found.by_seed == {1: 3.0, 2: 4.0}
    # Variances of the two variants: 2 and 0.5, each of two seeds.
    assert scores.spread(BOX) == pytest.approx(math.sqrt((2 + 0.5) / 2))
    assert found.error == pytest.approx(math.sqrt(1.25))  # above that of the pairs, 0.5
    assert scores.values(CAP_ENCODER, BLEU) == {1: 20.0}
    assert scores.difference(BASELINE, CAP_ENCODER, BLEU).by_seed == {}


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        ((53.0, 54.0), "holds beyond two standard errors: 2 of 2 seeds"),
        ((51.0, 52.0), "not shown: difference within the spread (2 of 2 seeds)"),
        ((51.5, 52.5), "holds in direction: 2 of 2 seeds"),
        ((49.0, 53.0), "not shown: difference within the spread (1 of 2 seeds)"),
        ((45.0, 46.0), "contradicted beyond two standard errors: 0 of 2 seeds"),
        ((53.0,), "open: 1 of 2 seeds are there"),
    ],
)
def test_verdicts(better: tuple[float, ...], expected: str) -> None:
    runs = [result(DET_SEG, 1, box=50.0), result(DET_SEG, 2, box=51.5)]
    runs += [result(BASELINE, seed, box=value) for seed, value in enumerate(better, 1)]
    difference = Scores(runs).difference(BASELINE, DET_SEG, BOX)
    assert verdict(Claim("", BASELINE, DET_SEG, BOX), difference, (1, 2)) == expected


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (3.0, "holds: not worse beyond the spread"),
        (-0.5, "holds: not worse beyond the spread"),
        (-1.5, "contradicted in direction: worse by more than a standard error"),
        (-4.0, "contradicted: worse beyond two standard errors"),
    ],
)
def test_verdicts_of_equality(mean: float, expected: str) -> None:
    runs = [result(DET_SEG, 1, box=50.0), result(DET_SEG, 2, box=51.0)]
    runs += [result(BASELINE, each["seed"], box=49 + mean + each["seed"]) for each in runs]
    runs = [*runs, result(CAP_ENCODER, 1, box=50.0), result(CAP_ENCODER, 2, box=52.0)]
    difference = Scores(runs).difference(BASELINE, DET_SEG, BOX)
    claim = Claim("", BASELINE, DET_SEG, BOX, equal=True)
    assert verdict(claim, difference, (1, 2)) == expected


def test_markdown_shows_ours_beside_the_papers() -> None:
    runs = [result(BASELINE, 1, box=50.0, bleu=0.31), result(BASELINE, 2, box=52.0, bleu=0.33)]
    text = markdown([TASKS], runs, (1, 2))
    assert "2 runs, 4 CPU minutes of training; steps: 10;" in text
    assert f"Without results yet: {TASKS.title}." in text  # nothing to compare with

    text = markdown([TASKS], [*runs, result(DET_SEG, 1, box=49.0, bleu=0.3)], (1, 2))
    row = next(line for line in text.splitlines() if line.startswith("| boxes, masks, semantic"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["51.0 ± 1.4", "32.0 ± 1.4", "20.7", "1.50", "2.0", "2"]
    assert "open: 1 of 2 seeds are there" in text


def test_status() -> None:
    lines = status({(DET_SEG, 1): 300, (DET_SEG, 2): 0}, [TASKS], (1, 2)).splitlines()
    assert lines[2].split()[-3:] == ["baseline", "done", "done"]
    assert lines[3].split()[-4:] == ["tasks_det_seg", "300", "steps", "-"]


def test_section_of_the_page() -> None:
    page = "before\n<!-- results of b -->\nold\n<!-- end of b -->\nafter\n"
    new = replace_section(page, name="b", content="new")
    assert new == "before\n<!-- results of b -->\n\nnew\n\n<!-- end of b -->\nafter\n"
    with pytest.raises(ValueError, match="the page lacks"):
        replace_section(page, name="c", content="new")


def test_the_page_agrees_with_the_results() -> None:
    bench = Bench(TOY, None, None, Path(), ROOT / COMMITTED)
    content = markdown(TABLES, bench.all_results(TABLES, SEEDS), SEEDS)
    page = (ROOT / PAGE).read_text()
    assert replace_section(page, name=bench.name, content=content) == page, (
        "run: python -m benchmarks experiments --render"
    )


def test_committed_results_name_no_machine() -> None:
    for path in (ROOT / COMMITTED).rglob("*.json"):
        assert os.sep not in json.dumps(json.loads(path.read_text())["settings"]), path


def test_remaining_time(tmp_path: Path) -> None:
    bench = small_bench(tmp_path)
    missing = [Experiment(bench, BASELINE, seed) for seed in (1, 2)]
    assert remaining_seconds(missing, [], parallel=1) is None
    assert remaining_seconds(missing, [result(DET_SEG, 1)], parallel=1) == 360
    missing[0].folder.mkdir(parents=True)
    (missing[0].folder / "model_0000004.pth").touch()  # 5 of 10 steps
    assert remaining_seconds(missing, [result(DET_SEG, 1)], parallel=2) == 135


def test_an_earlier_run_of_another_configuration_is_removed(tmp_path: Path) -> None:
    experiment = Experiment(small_bench(tmp_path), BASELINE, 1)
    write_specification(experiment, workers=2, modules=[])
    checkpoint = experiment.folder / "model_0000001.pth"
    checkpoint.touch()
    assert prepare(experiment)  # continues
    small_bench(tmp_path, steps=6)
    assert not prepare(experiment)
    assert not checkpoint.exists()


def test_result_of_a_run(tmp_path: Path, toy_sets: tuple[str, str]) -> None:
    bench = small_bench(tmp_path, steps=2)
    config = tmp_path / "small.yaml"
    train_set, test_set = toy_sets
    sets = f"DATASETS: {{TRAIN: ['{train_set}'], TEST: ['{test_set}']}}\n"
    config.write_text(config.read_text() + sets)
    experiment = Experiment(bench, BASELINE, 1)
    write_specification(experiment, workers=0, modules=[])
    specification = read_specification(experiment.folder)
    assert specification is not None
    cfg = load_config(str(experiment.folder / CONFIGURATION))
    cfg.MODEL.DEVICE = "cpu"
    found = describe(train(cfg, []), specification)
    assert (found["variant"], found["seed"], found["steps"], found["batch"]) == (
        "baseline",
        1,
        2,
        4,
    )
    assert [each["step"] for each in found["evaluations"]] == [2]
    assert {BOX.key, BLEU.key, "panoptic_seg/PQ"} <= found["evaluations"][-1].keys()
    assert 0 < found["seconds"]["training_cpu"] < 60
    assert found["settings"] == experiment.settings()
    assert str(tmp_path) not in json.dumps(found)
    assert set(found["data"]) == {train_set, test_set}


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen]]:
    """Processes that are ended after the test."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_repeated(tmp_path: Path, toy_root: Path, begun: list[subprocess.Popen]) -> None:
    bench = small_bench(tmp_path, steps=40)
    command = [
        *(sys.executable, "-m", "benchmarks", "experiments", "--config-file", bench.config_file),
        *("--table", "caption_head", "--seeds", "1", "--output", str(bench.output)),
        *("--results", str(bench.results)),
    ]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(toy_root), "CUDA_VISIBLE_DEVICES": ""}

    def begin() -> subprocess.Popen:
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, text=True))
        return begun[-1]

    first = Experiment(bench, BASELINE, 1)
    process = begin()
    await_steps(first, 3)
    process.kill()  # the run notices that its parent is gone, and saves
    process.wait()
    console = first.folder / "console.txt"
    wait_until(lambda: "stopped by a signal" in console.read_text())
    saved = first.finished_steps()
    assert 3 <= saved < 40

    process = begin()
    await_steps(first, saved + 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == EXIT_SAVED
    assert "baseline, seed 1: continues" in output
    assert "the same command continues" in output

    output, _ = begin().communicate()
    assert "2 of 2 runs are missing" in output
    assert "cap_full_transformer, seed 1: finished" in output
    found = first.result()
    assert found is not None
    assert [each["step"] for each in found["evaluations"]] == list(range(20, 41, 20))
    assert not list(first.folder.glob("model_0*.pth*"))
    output, _ = begin().communicate()
    assert "0 of 2 runs are missing" in output


def await_steps(experiment: Experiment, steps: int) -> None:
    wait_until(lambda: experiment.finished_steps() >= steps)


def wait_until(condition: Any, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
