"""Norms and cosines of the tasks' gradients on the shared trunk."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import torch
import torch.distributed
import torch.nn.functional as F
from detectron2.utils import comm
from torch import Tensor

# Prefixes of the names of each task's losses.
TASK_LOSSES = {
    "detection": ("loss_cls", "loss_box", "loss_dfl"),
    "mask": ("loss_mask",),
    "semantic": ("loss_sem_",),
    "caption": ("loss_caption",),
}


def task_gradient_norms(
    losses: Mapping[str, Tensor], parameters: Iterable[Tensor], *, scale: float = 1.0
) -> dict[str, Tensor]:
    """Norms of the tasks' gradients, and cosines between them.

    The graph and the parameters' gradients are kept. With several processes, all must call this;
    gradients are those of the whole batch.

    Args:
        losses: by name, as the model returns them in training.
        parameters: of the shared trunk.
        scale: factor on the losses during backpropagation, so that small gradients survive half
            precision (the scale of GradScaler); the norms do not depend on it.

    Returns:
        The norm of each task, and for each pair, under names such as "cosine_detection_mask", the
        cosine: 1 for gradients of the same direction, -1 for opposite directions.
    """
    trunk = list(parameters)
    if not trunk:
        return {}
    gradients = {
        task: _flat_gradient(parts, trunk, scale) for task, parts in _by_task(losses).items()
    }
    norms = {task: gradient.norm() for task, gradient in gradients.items()}
    for one, other in combinations(gradients, 2):
        norms[f"cosine_{one}_{other}"] = F.cosine_similarity(
            gradients[one], gradients[other], dim=0
        )
    return norms


def _by_task(losses: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    tasks = {
        task: [loss for name, loss in losses.items() if name.startswith(prefixes)]
        for task, prefixes in TASK_LOSSES.items()
    }
    return {task: parts for task, parts in tasks.items() if parts}


def _flat_gradient(parts: Sequence[Tensor], trunk: list[Tensor], scale: float) -> Tensor:
    """Concatenated gradient of a task's losses with respect to all parameters, (P,)."""
    total = torch.stack([part.float() for part in parts]).sum() * scale
    gradients = torch.autograd.grad(total, trunk, retain_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.flatten().float() for gradient in gradients]) / scale  # (P,)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(flat)
        flat /= comm.get_world_size()
    return flat
