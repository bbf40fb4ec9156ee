"""What to change when memory runs out."""

import torch

CANVAS_DIVISOR = 32
# What PyTorch and its libraries say when it is no OutOfMemoryError.
OTHER_WORDS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory has run out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OTHER_WORDS)


def explain_out_of_memory(
    error: BaseException, *, batch: int, accum: int, canvas: int, amp: bool, processes: int = 1
) -> str:
    """One paragraph instead of a stack trace.

    Args:
        error: what was raised.
        batch: SOLVER.IMS_PER_BATCH, over all processes.
        accum: SOLVER.ACCUM_STEPS.
        canvas: side of a training view, in pixels.
        amp: whether SOLVER.AMP.ENABLED.
        processes: that share the batch.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    images = batch // processes
    advice = []
    if images > 1:
        # The smallest split of the batch keeps what a step learns from.
        parts = next(n for n in range(2, images + 1) if images % n == 0)
        advice.append(
            f"SOLVER.IMS_PER_BATCH {batch // parts} with SOLVER.ACCUM_STEPS {accum * parts}, which "
            "learns from as many images a step"
        )
    if not amp:
        advice.append("SOLVER.AMP.ENABLED True, which halves most tensors on a GPU")
    smaller = canvas * 3 // 4 // CANVAS_DIVISOR * CANVAS_DIVISOR
    if smaller:
        share = (smaller / canvas) ** 2
        advice.append(
            f"INPUT.STRONG.SIZE and INPUT.WEAK.SIZE {smaller}, for {share:.0%} of the memory"
        )
    return (
        f"Out of memory with {images} images of {canvas} px at a time ({reason}). "
        f"What helps: {'; or '.join(advice)}."
    )
