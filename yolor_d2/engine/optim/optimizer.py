"""Optimizers, parameter groups, frozen parts, gradient clipping."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm

from ...checks import check_choice
from ...errors import ConfigError
from ...modeling.layers.modes import BATCH_NORMS
from .muon import Muon, is_matrix

OPTIMIZERS = ("AdamW", "SGD", "MUON")
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# Vectors that are not of norms, but shift or scale channels, or encode positions.
UNDECAYED = ("implicit_add", "implicit_mul", "positions.weight")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of SOLVER, for the parameters that are not frozen."""
    solver = cfg.SOLVER
    for pair in solver.LR_FACTORS:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise ConfigError(
                f"SOLVER.LR_FACTORS has {pair!r}; it must have pairs of a prefix of names and a "
                "factor"
            )
    return make_optimizer(
        model,
        name=solver.OPTIMIZER,
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        lr_factors=solver.LR_FACTORS,
        betas=solver.BETAS,
        eps=solver.EPS,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
    )


def make_optimizer(
    model: nn.Module,
    *,
    name: str = "AdamW",
    lr: float,
    weight_decay: float,
    weight_decay_norm: float = 0.0,
    weight_decay_bias: float | None = 0.0,
    bias_lr_factor: float = 1.0,
    lr_factors: Sequence[tuple[str, float]] = (),
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Make an optimizer of the parameters that require gradients.

    Args:
        model: whose parameters are trained; shared ones are counted once.
        name: "AdamW", "SGD" or "MUON", which is Muon for the weights of hidden layers and AdamW
            for the rest.
        lr: learning rate.
        weight_decay: of weights. Implicit vectors and position embeddings have none.
        weight_decay_norm: of norms.
        weight_decay_bias: of biases; None: the same as for weights and norms.
        bias_lr_factor: factor on the learning rate of biases.
        lr_factors: prefixes of parameters' names, and factors on their learning rates; the last
            matching pair is used.
        betas, eps: of AdamW, also in MUON.
        momentum: of SGD and Muon.
        nesterov: of SGD; Muon's momentum always is Nesterov's.
    """
    check_choice("SOLVER.OPTIMIZER", name, OPTIMIZERS)
    groups = parameter_groups(
        model,
        lr=lr,
        weight_decay=weight_decay,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
        bias_lr_factor=bias_lr_factor,
        lr_factors=lr_factors,
        with_matrices=name == "MUON",
    )
    # On CPUs the default is a loop over parameters, which takes four times as long.
    fused = all(p.device.type == "cpu" for group in groups for p in group["params"]) or None
    if name == "SGD":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)
    if name == "MUON":
        return Muon(groups, momentum=momentum, betas=(betas[0], betas[1]), eps=eps, fused=fused)
    return torch.optim.AdamW(groups, betas=(betas[0], betas[1]), eps=eps, fused=fused)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_bias: float | None,
    bias_lr_factor: float,
    lr_factors: Sequence[tuple[str, float]],
    with_matrices: bool = False,
) -> list[dict[str, Any]]:
    """One group for each combination of settings, in the order of the model's parameters.

    Groups also have "is_bias", for the warm-up. The arguments are those of `make_optimizer`.

    Args:
        with_matrices: whether weights of hidden layers have groups of their own, with "is_matrix".
    """
    check_prefixes("SOLVER.LR_FACTORS", model, [prefix for prefix, _ in lr_factors])
    members: dict[tuple[float, float, bool, bool], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for name, module, parameter in _parameters(model):
        if parameter in seen or not parameter.requires_grad:
            continue
        seen.add(parameter)
        factor = next((f for p, f in reversed(lr_factors) if name.startswith(p)), 1.0)
        decay = weight_decay_norm if isinstance(module, NORMS) else weight_decay
        is_bias = name.endswith("bias")
        if is_bias:
            factor *= bias_lr_factor
            decay = decay if weight_decay_bias is None else weight_decay_bias
        elif name.endswith(UNDECAYED):
            decay = 0.0
        matrix = with_matrices and is_matrix(name, module)
        members.setdefault((lr * factor, decay, is_bias, matrix), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "is_bias": is_bias}
        | ({"is_matrix": matrix} if with_matrices else {})
        for (rate, decay, is_bias, matrix), parameters in members.items()
    ]


def _parameters(model: nn.Module) -> Iterable[tuple[str, nn.Module, nn.Parameter]]:
    """Each parameter with its full name and its module."""
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{path}.{name}".lstrip("."), module, parameter


def check_prefixes(key: str, model: nn.Module, prefixes: Iterable[str]) -> None:
    """Refuse a prefix that no parameter's name starts with, except a part that is not built."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        part = prefix.partition(".")[0]
        is_left_out = getattr(model, part, model) is None  # as the head of a task that is left out
        if not is_left_out and not any(name.startswith(prefix) for name in names):
            parts = dict.fromkeys(name.partition(".")[0] for name in names)
            raise ConfigError(
                f"{key} has {prefix!r}, which no parameter's name starts with; the model's parts "
                f"are {', '.join(parts)}"
            )


def freeze_parts(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze the parameters whose names have one of the prefixes (SOLVER.FREEZE).

    Batch norms with such names keep their statistics. Freeze before the optimizer is made.
    """
    check_prefixes("SOLVER.FREEZE", model, prefixes)
    if not prefixes:
        return
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(prefixes)):
            parameter.requires_grad_(False)
    keep_statistics(model, prefixes)


def keep_statistics(module: nn.Module, prefixes: Sequence[str] = ("",)) -> None:
    """Let batch norms use and keep their running statistics in each forward pass, also in training.

    Their weights and biases are still trained, unless they are frozen.

    Args:
        module: must be called itself, not only its parts.
        prefixes: of the names of the batch norms; all by default.
    """
    module.register_forward_pre_hook(partial(_set_norms_to_eval, prefixes=tuple(prefixes)))


def _set_norms_to_eval(module: nn.Module, _: Any, *, prefixes: tuple[str, ...]) -> None:
    """Undo for batch norms what `module.train()` has set."""
    for path, norm in module.named_modules():
        if path.startswith(prefixes) and isinstance(norm, BATCH_NORMS):
            norm.eval()


def names_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """Names of an optimizer's parameters, in the order of the numbers in its state."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[p] for group in optimizer.param_groups for p in group["params"]]


def load_by_names(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    saved: Mapping[str, Any],
    *,
    names: Sequence[str],
) -> None:
    """Load the state of each parameter by its name, also if groups have changed.

    The groups and their settings are kept.

    Args:
        optimizer: of the model's parameters.
        model: has the names of the parameters.
        saved: state dict of such an optimizer.
        names: of the parameters in `saved`, by number.
    """
    numbers = {name: number for number, name in enumerate(names)}
    parameters = dict(model.named_parameters())
    state = {
        number: _in_layout_of(parameters[name], saved["state"][numbers[name]])
        for number, name in enumerate(names_of(optimizer, model))
        if numbers.get(name) in saved["state"]
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _in_layout_of(parameter: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a parameter in its memory layout, which fused optimizers rely on."""
    return {
        key: torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
        if isinstance(value, Tensor) and value.shape == parameter.shape
        else value
        for key, value in state.items()
    }


def clip_gradients(
    parameters: Iterable[nn.Parameter],
    *,
    kind: str | None = "norm",
    value: float,
    norm_type: float = 2.0,
    full_model: bool = True,
) -> Tensor:
    """Clip gradients in place.

    Args:
        parameters: those without a gradient are ignored.
        kind: "norm" limits norms, "value" limits each element, None changes nothing.
        value: the limit.
        norm_type: order of the norm.
        full_model: "norm" limits the norm of all gradients together, not that of each parameter.

    Returns:
        The norm of all gradients together before clipping, a scalar on their device.
    """
    parameters = list(parameters)
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type)
    if kind == "norm" and full_model:
        clip_grads_with_norm_(parameters, value, norm)
    elif kind == "norm":
        for parameter in parameters:
            clip_grad_norm_(parameter, value, norm_type)
    elif kind == "value":
        clip_grad_value_(parameters, value)
    return norm
