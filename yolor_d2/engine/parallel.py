"""A model as it is trained: frozen parts, memory layout, compilation, several processes."""

from collections.abc import Sequence

import torch
from detectron2.utils import comm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from .optim.optimizer import freeze_parts


def prepare(
    model: nn.Module,
    *,
    freeze: Sequence[str] = (),
    sync_bn: bool = False,
    channels_last: bool = False,
    compile: bool = False,
) -> nn.Module:
    """The model before its optimiser is made."""
    if sync_bn and comm.get_world_size() > 1:
        if next(model.parameters()).device.type != "cuda":
            raise ValueError("MODEL.YOLOR.SYNC_BN: PyTorch can do this on GPUs only")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    freeze_parts(model, freeze)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        # Gradients of single tasks go back through a graph that is needed once more.
        torch._functorch.config.donated_buffer = False
        # In place: names of the state, copies and what wraps the model do not notice.
        model.get_submodule("backbone").compile()
    return model


def wrap(model: nn.Module) -> nn.Module:
    """For several processes, which exchange gradients."""
    if comm.get_world_size() == 1:
        return model
    # Without device_ids, the model moves the batch itself, and knows what to leave on the host.
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def unwrap(model: nn.Module) -> nn.Module:
    """What `wrap` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@torch.no_grad()
def share_state(model: nn.Module) -> None:
    """Give every process the main one's weights, and its statistics, which differ between them."""
    if comm.get_world_size() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)
