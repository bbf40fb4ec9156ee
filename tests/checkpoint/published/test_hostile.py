"""Hostile files are refused without any effect."""

import builtins
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolor_d2.checkpoint.published.reading import Placeholder, read_state_dict

from .files import Model, save_published


class Reduced:
    """Pickles as the call that it was constructed with."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def calls(marker: str) -> dict[str, Reduced]:
    """Calls that create a file or do other harm when unpickled without checks."""
    touch = f"open({marker!r}, 'w').close()"
    run = Reduced(os.system, f"touch {marker}")
    return {
        "system": run,
        "subprocess": Reduced(subprocess.call, ["touch", marker]),
        "eval": Reduced(eval, touch),
        "exec": Reduced(exec, touch),
        "open": Reduced(open, marker, "w"),
        "getattr": Reduced(getattr, Path(marker), "touch"),
        "import": Reduced(builtins.__import__, "os"),
        "hub": Reduced(torch.hub.load, "nobody/nothing", "x"),
        "load": Reduced(torch.load, marker),
        "save": Reduced(torch.save, 1, marker),
        "mkdir": Reduced(os.mkdir, marker),
        "method": Reduced(Path.touch, Path(marker)),
        "memmap": Reduced(np.memmap, marker, "uint8", "w+", 0, (8,)),
        # Allowed functions with arguments that are not allowed.
        "rebuilt": Reduced(
            torch._tensor._rebuild_from_type_v2, os.system, int, (f"touch {marker}",), {}
        ),
        "rebuilt parameter": Reduced(torch._utils._rebuild_parameter, run, True, OrderedDict()),
        "set": Reduced(set, [run]),
        "attributes": Reduced(OrderedDict, state={"x": run}),
    }


def placed(call: Reduced, place: str) -> Any:
    """A published file that contains a call."""
    torch.manual_seed(0)
    network = Model()
    if place == "at the top":
        return call
    if place == "beside":
        return {"model": network, "opt": [call]}
    if place == "in a module":
        network.model[0].extra = {"x": (call,)}
    if place == "as a buffer":
        network.model[0]._buffers["extra"] = call
    return {"model": network}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["at the top", "beside", "in a module", "as a buffer"])
@pytest.mark.parametrize("way", calls(""))
def test_calls_are_refused(tmp_path: Path, way: str, place: str, zipped: bool) -> None:
    marker = tmp_path / "marker"
    content = placed(calls(str(marker))[way], place)
    path = save_published(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)

    message = r"x\.pt: refused, as it names '\w+" if zipped else r"x\.pt: damaged, or not readable"
    with pytest.raises(ValueError, match=message):
        read_state_dict(path)

    assert not marker.exists()


def replace_pickle(path: Path, pickled: bytes) -> Path:
    """Replace the pickle in a file of PyTorch."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else record)
    return path


PLACEHOLDER = b"cmodels.yolo\nModel\n"
CRAFTED = {
    "a name from the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x06touch \x85R.",
    "a dotted name from the stack": b"\x80\x04\x8c\x06models\x8c\x0byolo.system\x93)R.",
    "an old way to make objects": b"(S'touch x'\nios\nsystem\n.",
    "another old way": b"(cos\nsystem\nS'touch x'\no.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a placeholder called like a function twice": b"\x80\x02" + PLACEHOLDER + b")R)R.",
    "a placeholder's class given a state": b"\x80\x02"
    + PLACEHOLDER
    + b"}X\x01\x00\x00\x00aK\x01sb.",
    "a placeholder as a list": b"\x80\x02" + PLACEHOLDER + b")RK\x01a.",
    "a placeholder as a dictionary": b"\x80\x02" + PLACEHOLDER + b")RK\x01K\x02s.",
    "an allowed function given a state": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
        b"N}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    ),
    "a placeholder with attributes to set": (
        b"\x80\x02" + PLACEHOLDER + b")RN}X\x05\x00\x00\x00stateK\x01s\x86b."
    ),
    "an empty placeholder": b"\x80\x02" + PLACEHOLDER + b")R.",
    "a dotted name in our packages": b"\x80\x02cmodels\nyolo.os.system\n)R.",
}


@pytest.mark.parametrize("pickled", CRAFTED.values(), ids=CRAFTED)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_hostile_pickles_have_no_effect(tmp_path: Path, pickled: bytes) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: "):
        read_state_dict(replace_pickle(tmp_path / "x.pt", pickled))

    assert vars(Placeholder)["state"] == {}
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)
    assert not any(name.partition(".")[0] == "models" for name in sys.modules)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_pickles_raise_one_error(tmp_path: Path, data: st.DataObject) -> None:
    """Read weights; a ValueError is expected."""
    path = save_published({"model": Model()}, tmp_path / "x.pt")
    with zipfile.ZipFile(path) as archive:
        pickled = bytearray(archive.read("x/data.pkl"))
    for _ in range(data.draw(st.integers(1, 3))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))

    try:
        found = read_state_dict(replace_pickle(path, bytes(pickled)))
    except ValueError:
        return
    assert all(type(tensor) is torch.Tensor for tensor in found.values())
