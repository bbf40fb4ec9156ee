"""Best and worst images, false positives, missed objects and captions of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence

from ..evaluation.mistakes.comparison import (
    BoxComparison,
    caption_scores,
    compare_boxes,
    explain_false,
)
from .album import Album
from .html_page import Figure, Section

NOTE = (
    "Objects have a score of at least {threshold:.2f}. They are correct if a true box of the same "
    "class overlaps by more than half (intersection over union)."
)


def object_sections(album: Album, number: int) -> list[Section]:
    """Return the sections about objects: images and mistakes; empty without object results."""
    if album.objects is None:
        return []
    comparisons = {
        image_id: compare_boxes(annotations, album.objects[image_id], min_score=album.threshold)
        for image_id, annotations in album.annotations.items()
    }
    known = [i for i, comparison in comparisons.items() if comparison.quality is not None]
    best_first = sorted(known, key=lambda i: -_rank(comparisons[i]))
    return [
        Section("Worst images", _images(album, comparisons, best_first[::-1][:number])),
        Section("Best images", _images(album, comparisons, best_first[:number])),
        _false_section(album, comparisons, number),
        _missed_section(album, comparisons, number),
    ]


def _rank(comparison: BoxComparison) -> float:
    """Return a sort key: quality, then the number of objects, for clear examples at both ends."""
    count = len(comparison.correct) + len(comparison.false) + len(comparison.missed)
    quality = comparison.quality or 0.0
    return quality + (1e-3 * count if quality > 0.5 else -1e-3 * count)


def _false_section(album: Album, comparisons: Mapping[int, BoxComparison], number: int) -> Section:
    found = [
        (image_id, match, match.result)
        for image_id, comparison in comparisons.items()
        for match in comparison.false
        if match.result is not None
    ]
    found.sort(key=lambda item: -item[2]["score"])
    figures = [
        album.closeup(
            image_id,
            annotations=album.annotations[image_id],
            results=[result],
            box=result["bbox"],
            title=f"{album.class_name(result)} {result['score']:.0%}",
            note=explain_false(match, album.annotations[image_id], album.class_names),
        )
        for image_id, match, result in found[:number]
    ]
    return Section(f"False positives: {len(found)}, highest score first", figures)


def _missed_section(album: Album, comparisons: Mapping[int, BoxComparison], number: int) -> Section:
    assert album.objects is not None
    missed = [
        (image_id, match.annotation, match.result)
        for image_id, comparison in comparisons.items()
        for match in comparison.missed
        if match.annotation is not None
    ]
    missed.sort(key=lambda item: -_area(item[1]["bbox"]))
    figures = [
        album.closeup(
            image_id,
            annotations=[annotation],
            results=album.objects[image_id],
            box=annotation["bbox"],
            title=album.class_name(annotation),
            note=f"predicted as {album.class_name(result)}" if result else "not found",
        )
        for image_id, annotation, result in missed[:number]
    ]
    return Section(f"Missed objects: {len(missed)}, largest first", figures)


def _area(bbox: Sequence[float]) -> float:
    return bbox[2] * bbox[3]


def _images(
    album: Album, comparisons: Mapping[int, BoxComparison], ids: Iterable[int]
) -> list[Figure]:
    figures = []
    for image_id in ids:
        comparison = comparisons[image_id]
        title = f"{album.file_name(image_id)}: {comparison.quality:.2f}"
        correct, false, missed = map(len, (comparison.correct, comparison.false, comparison.missed))
        note = f"{correct} correct, {false} false, {missed} missed"
        figures.append(Figure(album.draw_comparison(image_id), title, note))
    return figures


def caption_sections(album: Album, number: int) -> list[Section]:
    """Return the worst and the best captions; empty without caption results."""
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
        sections.append(Section(title, figures, note="CIDEr-D: caption; reference captions"))
    return sections
