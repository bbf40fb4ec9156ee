"""A page of what a model does well and badly: best and worst images, mistakes, worst captions.

It reads the result files that an evaluation has written, and runs no model.

python -m yolor_d2.tools.visualize_results --config-file FILE --results DIR --output DIR
    [--number N] [--score-threshold S] [KEY VALUE ...]
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolor_d2.data.errors import BadFileError
from yolor_d2.evaluation.mistakes.mistakes import (
    BoxComparison,
    caption_scores,
    compare_boxes,
    explain_false,
)
from yolor_d2.model_zoo import load_config
from yolor_d2.reports.album import Album, read_results
from yolor_d2.reports.html_page import Figure, Section, write_page
from yolor_d2.tools.options import add_picture_options, add_score_threshold

NOTE = (
    "Objects are found with a score of at least {threshold:.2f}, and right when their class is and "
    "their box overlaps the true one by more than half (intersection over union). On the left is "
    "what is true, on the right what was found."
)


def main(arguments: list[str] | None = None) -> int:
    """Draw the extremes of an evaluation's result files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, required=True, help="OUTPUT_DIR/inference/<data set> of --eval-only"
    )
    add_picture_options(parser, number=8, counted="pictures of each kind")
    add_score_threshold(parser)
    args = parser.parse_args(arguments)
    try:
        cfg = load_config(args.config_file, args.opts)
        album = read_results(args.results, cfg.DATASETS.TEST, threshold=args.score_threshold)
        sections = [*object_sections(album, args.number), *caption_sections(album, args.number)]
        path = write_page(
            args.output,
            title=f"Results on {album.dataset_name}",
            note=NOTE.format(threshold=args.score_threshold),
            sections=sections,
        )
    except (ValueError, KeyError, OSError, BadFileError) as error:
        print(f"visualize_results: {error}", file=sys.stderr)
        return 2
    print(f"{sum(len(section.figures) for section in sections)} pictures are in {path}")
    return 0


def object_sections(album: Album, number: int) -> list[Section]:
    """Best and worst images, false and missed objects; none without results of objects."""
    if album.objects is None:
        return []
    verdicts = {
        image_id: compare_boxes(annotations, album.objects[image_id], min_score=album.threshold)
        for image_id, annotations in album.annotations.items()
    }
    known = [i for i, verdict in verdicts.items() if verdict.quality is not None]
    best_first = sorted(known, key=lambda i: -_rank(verdicts[i]))
    return [
        Section("Worst images", _images(album, verdicts, best_first[::-1][:number])),
        Section("Best images", _images(album, verdicts, best_first[:number])),
        _false_section(album, verdicts, number),
        _missed_section(album, verdicts, number),
    ]


def _rank(verdict: BoxComparison) -> float:
    """Quality; of nearly as good images, those with more objects are the more remarkable ones."""
    many = len(verdict.correct) + len(verdict.false) + len(verdict.missed)
    quality = verdict.quality or 0.0
    return quality + (1e-3 * many if quality > 0.5 else -1e-3 * many)


def _false_section(album: Album, verdicts: Mapping[int, BoxComparison], number: int) -> Section:
    every = [
        (image_id, match, match.result)
        for image_id, verdict in verdicts.items()
        for match in verdict.false
        if match.result is not None
    ]
    every.sort(key=lambda item: -item[2]["score"])
    figures = [
        album.closeup(
            image_id,
            annotations=album.annotations[image_id],
            results=[result],
            box=result["bbox"],
            title=f"{album.class_name(result)} {result['score']:.0%}",
            note=explain_false(match, album.annotations[image_id], album.class_names),
        )
        for image_id, match, result in every[:number]
    ]
    return Section(f"False positives: {len(every)}, the surest first", figures)


def _missed_section(album: Album, verdicts: Mapping[int, BoxComparison], number: int) -> Section:
    assert album.objects is not None
    every = [
        (image_id, match.annotation, match.result)
        for image_id, verdict in verdicts.items()
        for match in verdict.missed
        if match.annotation is not None
    ]
    every.sort(key=lambda item: -_area(item[1]["bbox"]))
    figures = [
        album.closeup(
            image_id,
            annotations=[annotation],
            results=album.objects[image_id],
            box=annotation["bbox"],
            title=album.class_name(annotation),
            note=f"taken for {album.class_name(result)}" if result else "not found",
        )
        for image_id, annotation, result in every[:number]
    ]
    return Section(f"Missed objects: {len(every)}, the largest first", figures)


def _area(bbox: Sequence[float]) -> float:
    return bbox[2] * bbox[3]


def _images(
    album: Album, verdicts: Mapping[int, BoxComparison], ids: Iterable[int]
) -> list[Figure]:
    figures = []
    for image_id in ids:
        verdict = verdicts[image_id]
        title = f"{album.file_name(image_id)}: {verdict.quality:.2f}"
        right, false, missed = map(len, verdict)
        note = f"{right} right, {false} false, {missed} missed"
        figures.append(Figure(album.draw_comparison(image_id), title, note))
    return figures


def caption_sections(album: Album, number: int) -> list[Section]:
    """The worst and the best captions; none without results of captions."""
    if album.captions is None:
        return []
    scores = caption_scores(album.references, album.captions)
    worst_first = sorted(scores, key=lambda image_id: scores[image_id])
    chosen = {"Worst captions": worst_first, "Best captions": worst_first[::-1]}
    sections = []
    for title, ids in chosen.items():
        figures = []
        for image_id in ids[:number]:
            references = "\n".join(f"- {text}" for text in album.references[image_id])
            heading = f"{scores[image_id]:.2f}: {album.captions[image_id]}"
            figures.append(Figure(album.draw_image(image_id), heading, references))
        sections.append(Section(title, figures, note="CIDEr-D, the caption, and what people say"))
    return sections


if __name__ == "__main__":
    sys.exit(main())
