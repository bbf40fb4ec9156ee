"""The tables of the experiments in Markdown, and their place in docs/evidence/experiments.md."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from .bench import Result
from .differences import Scores, verdict
from .tables import Claim, Metric, Table, Variant

MISSING = "-"
CLAIM_COLUMNS = ("claim", "metric", "difference", "with each seed", "paper", "verdict")


def markdown(tables: Sequence[Table], results: Sequence[Result], seeds: Sequence[int]) -> str:
    """What the runs were, and each table of which a claim can be judged, with its claims."""
    scores = Scores(results)
    shown = [table for table in tables if is_begun(table, scores)]
    parts = [facts(results)]
    if waiting := [table.title for table in tables if table not in shown]:
        parts.append(f"Without results yet: {'; '.join(waiting)}.")
    for table in shown:
        parts += [f"### {table.title}", rows(table, scores), claims(table, scores, seeds)]
        parts += [table.note] if table.note else []
    return "\n\n".join(parts)


def is_begun(table: Table, scores: Scores) -> bool:
    """Whether a seed has both runs of a claim."""
    differences = (scores.difference(c.better, c.worse, c.metric) for c in table.claims)
    return any(difference.by_seed for difference in differences)


def rows(table: Table, scores: Scores) -> str:
    """The table: mean and standard deviation over seeds; metrics that no row has are left out."""
    everything = [row.variant for row in table.rows]
    metrics = [m for m in table.metrics if any(scores.values(v, m) for v in everything)]
    papers = [m for m in table.metrics if any(m in row.paper for row in table.rows)]
    cells = [
        [
            row.label,
            *(spread_cell(list(scores.values(row.variant, m).values()), m) for m in metrics),
            *(number(row.paper.get(metric), metric) for metric in papers),
            *cost_cells(scores.runs(row.variant)),
        ]
        for row in table.rows
    ]
    headers = [table.title, *(m.label for m in metrics), *(f"paper's {m.label}" for m in papers)]
    return pipes(cells, [*headers, "M parameters", "CPU minutes", "seeds"], text_columns=(0,))


def claims(table: Table, scores: Scores, seeds: Sequence[int]) -> str:
    """The table's claims with their differences and verdicts."""
    cells = [claim_cells(claim, scores, seeds) for claim in table.claims]
    return pipes(cells, CLAIM_COLUMNS, text_columns=(0, 1, 5))


def claim_cells(claim: Claim, scores: Scores, seeds: Sequence[int]) -> list[str]:
    difference = scores.difference(claim.better, claim.worse, claim.metric)
    digits = claim.metric.digits
    mean, error = f"{difference.mean:+.{digits}f}", f"{difference.error:.{digits}f}"
    known = bool(difference.by_seed)
    by_seed = ", ".join(f"{value:+.{digits}f}" for value in difference.by_seed.values())
    return [
        claim.text,
        claim.metric.label,
        (mean if error == "nan" else f"{mean} ± {error}") if known else MISSING,
        by_seed or MISSING,
        MISSING if claim.paper is None else f"{claim.paper:+.{digits}f}",
        verdict(claim, difference, seeds),
    ]


def facts(results: Sequence[Result]) -> str:
    """A sentence on what the runs have in common, and where they differ."""
    if not results:
        return "No run is finished."
    minutes = sum(result["seconds"]["training_cpu"] for result in results) / 60
    sentences = [
        f"{len(results)} runs, {minutes:,.0f} CPU minutes of training",
        f"steps: {counted(results, 'steps')}",
        f"images a step: {counted(results, 'batch')}",
        f"commits: {counted(results, 'commit')}",
        f"data: {len({str(result['data']) for result in results})} version(s)",
        f"CPU: {', '.join(sorted({result['machine']['cpu'] for result in results}))}",
    ]
    return "; ".join(sentences) + "."


def counted(results: Sequence[Result], key: str) -> str:
    """The values of a key, with their numbers of runs if they differ."""
    counts = Counter(str(result[key])[:12] for result in results)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common())


def spread_cell(values: Sequence[float], metric: Metric) -> str:
    if not values:
        return MISSING
    mean = number(statistics.mean(values), metric)
    return mean if len(values) == 1 else f"{mean} ± {number(statistics.stdev(values), metric)}"


def cost_cells(runs: Sequence[Result]) -> list[str]:
    """Parameters, CPU time of training and number of seeds of a variant."""
    if not runs:
        return [MISSING, MISSING, "0"]
    minutes = statistics.mean(run["seconds"]["training_cpu"] for run in runs) / 60
    return [f"{runs[0]['parameters'] / 1e6:.2f}", f"{minutes:.1f}", str(len(runs))]


def number(value: float | None, metric: Metric) -> str:
    return MISSING if value is None else f"{value:.{metric.digits}f}"


def pipes(
    cells: Sequence[Sequence[str]], headers: Sequence[str], *, text_columns: Sequence[int]
) -> str:
    alignment = ["left" if n in text_columns else "right" for n in range(len(headers))]
    return tabulate(
        cells, headers=headers, tablefmt="pipe", colalign=alignment, disable_numparse=True
    )


def replace_section(page: str, *, name: str, content: str) -> str:
    """Replace what stands between a page's two comments with the name of a bench.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- results of {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise ValueError(f'the page lacks "{begin.strip()}" or "{end}"')
    return f"{before}{begin}\n{content}\n\n{end}{after}"


def status(
    missing: Mapping[tuple[Variant, int], int], tables: Sequence[Table], seeds: Sequence[int]
) -> str:
    """Which runs of which row are finished.

    Args:
        missing: finished steps of each missing run, by variant and seed.
        tables, seeds: that are shown.
    """

    def state(variant: Variant, seed: int) -> str:
        steps = missing.get((variant, seed))
        return "done" if steps is None else f"{steps} steps" if steps else MISSING

    cells = [
        [
            table.name if row is table.rows[0] else "",
            row.label,
            row.variant.name,
            *(state(row.variant, seed) for seed in seeds),
        ]
        for table in tables
        for row in table.rows
    ]
    headers = ["table", "row", "variant", *(f"seed {seed}" for seed in seeds)]
    return tabulate(cells, headers=headers, tablefmt="simple")
