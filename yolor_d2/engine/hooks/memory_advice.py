"""Advice when memory runs out."""

from ..parts import MemorySettings

CANVAS_DIVISOR = 32


def explain_out_of_memory(
    error: BaseException,
    *,
    batch: int,
    accum: int,
    canvas: int,
    amp: bool,
    checkpointing: bool = True,
    processes: int = 1,
    settings: MemorySettings,
) -> str:
    """A paragraph on how to reduce memory, instead of a stack trace.

    Args:
        error: that was raised.
        batch: images of a batch, over all processes.
        accum: batches of a step.
        canvas: side of a training view, in pixels.
        amp: whether AMP is enabled.
        checkpointing: whether activation checkpointing is enabled or impossible.
        processes: number of processes that share the batch.
        settings: how these values are set.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    images = batch // processes
    advice = []
    if images > 1:
        # The smallest split of the batch, with the same number of images in a step.
        parts = next(n for n in range(2, images + 1) if images % n == 0)
        advice.append(
            f"{settings.batch.format(batch // parts)} with {settings.accum.format(accum * parts)}, "
            "for the same number of images in a step"
        )
    if not amp:
        advice.append(f"{settings.amp}, which halves most tensors on a GPU")
    if not checkpointing:
        advice.append(f"{settings.checkpointing}, which computes activations twice")
    smaller = canvas * 3 // 4 // CANVAS_DIVISOR * CANVAS_DIVISOR
    if smaller:
        share = (smaller / canvas) ** 2
        advice.append(f"{settings.canvas.format(smaller)}, for {share:.0%} of the memory")
    return (
        f"Out of memory with {images} images of {canvas} px at a time ({reason}). "
        f"Remedies: {'; or '.join(advice)}."
    )
