"""Counts operators that make the host wait for the device, on the CPU."""

from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operators with a result in Python, or of a size, that depends on the values of a tensor.
WAITING = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.equal.default",
    "aten.unique_consecutive.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
    "aten.item.default",
}


class Counting(TorchDispatchMode):
    """Counts synchronizations: the operators above, boolean indexing and `tolist`."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        to_list = torch.Tensor.tolist

        def counted(tensor: torch.Tensor) -> Any:
            self.waits["tolist"] += 1
            return to_list(tensor)

        self.lists = patch.object(torch.Tensor, "tolist", counted)

    def __enter__(self) -> "Counting":
        self.lists.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.lists.stop()
        super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        boolean = name.startswith(("aten.index.", "aten.index_put")) and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        if name in WAITING or boolean:
            self.waits[name] += 1
        return function(*args, **(kwargs or {}))
