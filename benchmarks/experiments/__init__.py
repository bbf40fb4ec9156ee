"""Experiments: the paper's tables and some of our own, over several seeds

A run is a folder with its configuration, log and metrics. Finished runs are kept, interrupted ones
are continued: the command can be stopped at any time and repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from yolor_d2.files import write_text
from yolor_d2.tools.options import positive

from .bench import Bench, Experiment
from .page import markdown, replace_section, status
from .scheduling import Resources, remaining_seconds, run_all
from .tables import TABLES

PAGE = Path("docs/evidence/experiments.md")
COMMITTED = Path("docs/evidence")
SEEDS = (1, 2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [table.name for table in TABLES]
    parser.add_argument("--table", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="(1 2)")
    parser.add_argument(
        "--config-file",
        default="configs/toy/bench.yaml",
        metavar="FILE",
        help="the baseline (configs/toy/bench.yaml); configs/COCO/yolor_elan_mtl_paper.yaml: the "
        "paper's, with the files of configs/COCO/ablations",
    )
    parser.add_argument("--data", type=Path, help="labeled data, as in `yolor-d2 train --data`")
    parser.add_argument("--steps", type=positive, help="of each run; default: the configuration's")
    parser.add_argument("--parallel", type=positive, default=1, help="runs at a time (1)")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of a run (0)")
    parser.add_argument("--output", type=Path, default=Path("output/experiments"), help="of runs")
    parser.add_argument("--results", type=Path, default=COMMITTED, help="of results, as JSON")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--list", action="store_true", help="list finished and missing runs only")
    only.add_argument("--render", action="store_true", help=f"write the tables to {PAGE} only")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, then print the tables; return the results."""
    tables = [table for table in TABLES if table.name in args.table]
    data = None if args.data is None else args.data.absolute()
    bench = Bench(
        args.config_file, data=data, steps=args.steps, output=args.output, results=args.results
    )
    if args.render:
        render(bench, PAGE)
        return {}
    experiments = list(bench.experiments(tables, args.seeds))
    missing = [each for each in experiments if each.result() is None]
    steps = {(each.variant, each.seed): each.finished_steps() for each in missing}
    print(f"{bench.name}\n\n{status(steps, tables, args.seeds)}\n")
    print(
        f"{len(missing)} of {len(experiments)} runs are missing; {estimate(bench, missing, args)}"
    )
    if args.list:
        return {}
    resources = Resources(parallel=args.parallel, workers=args.workers, modules=args.modules)
    failures = run_all(missing, resources=resources, report=lambda line: print(line, flush=True))
    results = bench.all_results(tables, args.seeds)
    print(f"\n{markdown(tables, results, args.seeds)}")
    if failures:
        lines = "\n".join(f"{each.experiment.name}: {each.reason}" for each in failures)
        raise SystemExit(f"\n{len(failures)} runs failed:\n{lines}")
    return {"results": results}


def estimate(bench: Bench, missing: list[Experiment], args: argparse.Namespace) -> str:
    """The remaining time, in words."""
    finished = bench.all_results(TABLES, args.seeds)
    seconds = remaining_seconds(missing, finished, parallel=args.parallel)
    if seconds is None:
        return "no run has shown yet how long one takes"
    return f"about {seconds / 3600:.1f} hours with {args.parallel} at a time"


def render(bench: Bench, page: Path) -> None:
    """Write all tables of a bench to its section of a page."""
    content = markdown(TABLES, bench.all_results(TABLES, SEEDS), SEEDS)
    text = page.read_text(encoding="utf-8")
    write_text(page, replace_section(text, name=bench.name, content=content))
    print(f"{page}: the section of {bench.name} is written")
