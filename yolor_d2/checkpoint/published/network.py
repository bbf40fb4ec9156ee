"""A published network: names of its weights, our configuration, and where it is published."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import CheckpointError

Pairs = Iterator[tuple[str, str]]  # published path, our path
Names = dict[str, str | None]  # published name, our name; None: a constant that ours does not store

# Entries of a convolution with batch norm: published name, our name.
BLOCK = {
    "conv.weight": "conv.weight",
    "bn.weight": "norm.weight",
    "bn.bias": "norm.bias",
    "bn.running_mean": "norm.running_mean",
    "bn.running_var": "norm.running_var",
    "bn.num_batches_tracked": "norm.num_batches_tracked",
}
# Can be missing in a published file: a counter without effect.
OPTIONAL = "num_batches_tracked"
MAX_LISTED = 8


@dataclass(frozen=True)
class Publication:
    """Where a network is published, and with which results.

    Attributes:
        file: name of the published file; "": the authors have not published one.
        repository: on GitHub.
        license: of the weights.
        results: published metrics on COCO val2017, in percent, by name.
    """

    file: str
    repository: str
    license: str
    results: Mapping[str, float]


@dataclass(frozen=True)
class PublishedNetwork:
    """A network of others that ours reproduces.

    Attributes:
        name: of the network.
        config: our configuration of it.
        tasks: that it predicts.
        make_names: builds the names of the weights that ours has.
        stem: name and number of output channels of its first convolution, which tells the sizes of
            a family apart.
        dropped: regular expressions of names that ours does not have, and the reason of each.
        publication: where it is published.
    """

    name: str
    config: str
    tasks: tuple[str, ...]
    make_names: Callable[[], Names]
    stem: tuple[str, int]
    publication: Publication
    dropped: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> Names:
        """Names of a published file and of our network."""
        return self.make_names()

    def reason_to_drop(self, name: str) -> str | None:
        """Why our network does not have a published entry; None: it has."""
        return next((why for pattern, why in self.dropped if re.match(pattern, name)), None)

    def difference(self, given: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
        """Unexpected and missing names of a state dict."""
        unexpected = sorted(n for n in given.keys() - self.names.keys() if not self._drops(n))
        missing = sorted(n for n in self.names.keys() - given.keys() if not n.endswith(OPTIONAL))
        return unexpected, missing

    def problem(self, given: Mapping[str, Tensor]) -> str:
        """Description of the unexpected and missing names of a state dict; "": none."""
        differences = [
            f"{what} {_listed(names)}"
            for what, names in zip(("unexpected", "missing"), self.difference(given), strict=True)
            if names
        ]
        return f"not a {self.name}: {'; '.join(differences)}" if differences else ""

    def has_stem(self, given: Mapping[str, Tensor]) -> bool:
        """Whether the first convolution of a state dict has the network's width."""
        name, width = self.stem
        return given[name].shape[:1] == (width,)

    def convert(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict, without implicit vectors that the published network lacks.

        Raises:
            ValueError: the names are not exactly those of the network, or an entry is no weight.
        """
        if problem := self.problem(given):
            raise CheckpointError(problem)
        converted = {}
        for name, our_name in self.names.items():
            if name not in given:
                continue
            _check_tensor(name, given[name])
            if our_name is None:
                _check_bins(name, given[name])
            else:
                tensor = given[name]
                half = tensor.dtype in (torch.float16, torch.bfloat16)
                converted[our_name] = tensor.float() if half else tensor
        return converted

    def _drops(self, name: str) -> bool:
        return self.reason_to_drop(name) is not None


def block_names(pairs: Iterable[tuple[str, str]]) -> Names:
    """Names of convolutions with batch norm."""
    return {f"{path}.{k}": f"{ours}.{our_k}" for path, ours in pairs for k, our_k in BLOCK.items()}


def conv_names(pairs: Iterable[tuple[str, str]]) -> Names:
    """Names of convolutions with a bias."""
    return {f"{path}.{k}": f"{ours}.{k}" for path, ours in pairs for k in ("weight", "bias")}


def _check_tensor(name: str, tensor: Tensor) -> None:
    """Refuse tensors that are not dense floating-point weights on the CPU."""
    is_weight = tensor.is_floating_point() or name.endswith(OPTIONAL)
    if not is_weight or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{name} is {tensor.dtype}, {tensor.layout}, on {tensor.device}")


def _check_bins(name: str, weight: Tensor) -> None:
    """Check the bins of the box distributions, which published networks store."""
    if not torch.equal(weight.flatten().float(), torch.arange(16.0)):
        raise CheckpointError(f"{name} is not 0, 1, ..., 15: unsupported bins of box distributions")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
