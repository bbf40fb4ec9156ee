"""Preparing a model for training: frozen parts, memory layout, compilation, several processes."""

from collections.abc import Sequence

import torch
from detectron2.utils import comm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError
from ..modeling.backbone import SelectiveBackbone
from .optim.optimizer import freeze_parts


def prepare_for_training(
    model: nn.Module,
    *,
    freeze: Sequence[str] = (),
    sync_bn: bool = False,
    channels_last: bool = False,
    activation_checkpointing: bool = False,
    compile: bool = False,
    compile_mode: str = "default",
) -> nn.Module:
    """Prepare a model; must be called before its optimizer is made."""
    if activation_checkpointing:
        checkpoint_activations(model)
    if sync_bn and comm.get_world_size() > 1:
        if next(model.parameters()).device.type != "cuda":
            raise ConfigError("MODEL.YOLOR.SYNC_BN: PyTorch supports this on GPUs only")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    freeze_parts(model, freeze)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if compile:
        # In place: names in the state dict, copies and wrappers of the model stay the same.
        model.get_submodule("backbone").compile(mode=compile_mode)
    return model


def checkpoint_activations(model: nn.Module) -> None:
    """Let our backbones and necks compute activations again in the backward pass."""
    backbones = [each for each in model.modules() if isinstance(each, SelectiveBackbone)]
    if not backbones:
        raise ConfigError(
            "MODEL.YOLOR.ACTIVATION_CHECKPOINTING is for backbones of yolor_d2; "
            f"{type(model).__name__} has none"
        )
    for backbone in backbones:
        backbone.activation_checkpointing = True


def parallelize(model: nn.Module) -> nn.Module:
    """Wrap a model for several processes, which exchange gradients."""
    if comm.get_world_size() == 1:
        return model
    # Without device_ids, the model moves the batch itself: some of it stays on the host.
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def unwrap(model: nn.Module) -> nn.Module:
    """Undo `parallelize`."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@torch.no_grad()
def share_state(model: nn.Module) -> None:
    """Copy weights and statistics of the main process to all; statistics differ between them."""
    if comm.get_world_size() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)
