"""How much each task pulls at the trunk that all share."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import torch
import torch.distributed
import torch.nn.functional as F
from detectron2.utils import comm
from torch import Tensor

# The beginnings of the names of each task's losses.
TASK_LOSSES = {
    "detection": ("loss_cls", "loss_box", "loss_dfl"),
    "mask": ("loss_mask",),
    "semantic": ("loss_sem_",),
    "caption": ("loss_caption",),
}


def task_gradient_norms(
    losses: Mapping[str, Tensor], parameters: Iterable[Tensor], *, scale: float = 1.0
) -> dict[str, Tensor]:
    """Norms of the tasks' gradients, and how far they agree.

    The graph and the parameters' own gradients stay as they are. In several processes, all have to
    call it; the gradients are those of the whole batch.

    Args:
        losses: by name, as the model gives them in training.
        parameters: those of the shared trunk.
        scale: what losses are multiplied by on their way through the network, so that small
            gradients survive half precision (GradScaler's scale); the norms do not depend on it.

    Returns:
        For each task its norm, and for each pair "cosine_detection_mask" and the like: 1 where two
        tasks pull in one direction, -1 where in opposite ones.
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
        task: [loss for name, loss in losses.items() if name.startswith(beginnings)]
        for task, beginnings in TASK_LOSSES.items()
    }
    return {task: parts for task, parts in tasks.items() if parts}


def _flat_gradient(parts: Sequence[Tensor], trunk: list[Tensor], scale: float) -> Tensor:
    """Gradient of a task's losses by all parameters, one after the other, (P,)."""
    total = torch.stack([part.float() for part in parts]).sum() * scale
    gradients = torch.autograd.grad(total, trunk, retain_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.flatten().float() for gradient in gradients]) / scale  # (P,)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(flat)
        flat /= comm.get_world_size()
    return flat
