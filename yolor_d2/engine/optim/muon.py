"""Muon: momentum, orthogonalized, for the weights of hidden layers; AdamW for the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# Coefficients of the quintic iteration, its number of steps, and what is added to norms, all as
# published: singular values end between about 0.7 and 1.2.
NEWTON_SCHULZ, STEPS, EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7
# Root mean square of an update, that of AdamW's: both can have the same rate and weight decay.
UPDATE_RMS = 0.2
# In the names of output layers: ours, and those of detectron2's networks.
OUTPUT_LAYERS = (
    *("predictor", "caption_head.output"),
    *("cls_score", "bbox_pred", "ctrness", "objectness_logits", "anchor_deltas"),
)


def is_matrix(name: str, module: nn.Module) -> bool:
    """Whether a parameter is the weight of a hidden layer, which MUON orthogonalizes.

    Not implicit vectors, norms, biases, embeddings and output layers. Nor the weights of grouped
    convolutions, which are several small matrices.
    """
    return (
        isinstance(module, nn.Conv2d | nn.Linear)
        and getattr(module, "groups", 1) == 1
        and name.endswith("weight")
        and not any(part in name for part in OUTPUT_LAYERS)
    )


class Muon(torch.optim.Optimizer):
    """Muon in the groups with "is_matrix", AdamW in the others.

    A weight of a convolution is a matrix of its output channels and all the rest. The matrices of
    the same shape are orthogonalized together. Momentum is Nesterov's.
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool | None = None,
    ) -> None:
        """
        Args:
            groups: each with "params", "lr", "weight_decay" and "is_matrix".
            momentum: of matrices.
            betas, eps, fused: of AdamW.
        """
        self.fused = fused
        of_matrices, of_others = {"momentum": momentum}, {"betas": betas, "eps": eps}
        super().__init__(
            [{**group, **(of_matrices if group["is_matrix"] else of_others)} for group in groups],
            defaults={},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            update = self._step_matrices if group["is_matrix"] else self._step_others
            update(parameters, group)
        return loss

    def _step_others(self, parameters: Sequence[nn.Parameter], group: Mapping[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=self.fused,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _step_matrices(self, parameters: Sequence[nn.Parameter], group: Mapping[str, Any]) -> None:
        same_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            same_shape[len(parameter), parameter.numel() // len(parameter)].append(parameter)
        for (rows, columns), members in same_shape.items():
            directions = [self._direction(each, group["momentum"]) for each in members]
            updates = orthogonalize(torch.stack(directions))  # (n, rows, columns)
            scale = UPDATE_RMS * max(rows, columns) ** 0.5
            for parameter, update in zip(members, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The gradient with momentum, as a matrix (rows, columns)."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum).flatten(1)


def orthogonalize(matrices: Tensor, coefficients: Sequence[float] = NEWTON_SCHULZ) -> Tensor:
    """Replace the singular values of matrices (n, rows, columns) by about 1.

    Those far below EPS stay near 0: without gradients, what is left of the momentum is noise.

    The iteration is x <- p(x x^T) x, so all of its factors are polynomials of the first x x^T. They
    are multiplied first: most matrices are several times wider than high, or the reverse.
    """
    a, b, c = coefficients
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + EPS)
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    gram = x @ x.mT  # (n, rows, rows), of the shorter side
    product = factor = _factor(gram, a, b, c)
    for _ in range(STEPS - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram, a, b, c)
        product = factor @ product
    x = product @ x
    return x.mT if is_tall else x


def _factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """p(x x^T) = a + b x x^T + c (x x^T)^2, of matrices (n, rows, rows)."""
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor
