"""Weight files: checkpoints, releases, state dicts, pickled modules, detectron2's pickles."""

import io
import json
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from yolor_d2.checkpoint.history import weights_page
from yolor_d2.checkpoint.release import StoredWeights, write_release
from yolor_d2.checkpoint.weights import load_weights, read_weights
from yolor_d2.inference.loading import load_network

from ...modeling.factory import THINGS, tiny_config, tiny_model
from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, Case, Target
from ..tree_mutators import mutate_tree

NETWORKS = 0.01  # share of the cases that build a network, which takes half a second
MARK = "executed"  # a file that hostile pickles try to make
COMMAND = f"touch {MARK}"
CALLS = (
    ("os", "system", (COMMAND,)),
    ("posix", "system", (COMMAND,)),
    ("nt", "system", (COMMAND,)),
    ("builtins", "exec", (f"open('{MARK}', 'w')",)),
    ("builtins", "eval", (f"open('{MARK}', 'w')",)),
    ("__builtin__", "eval", (f"open('{MARK}', 'w')",)),
    ("builtins", "open", (MARK, "w")),
    ("io", "open", (MARK, "w")),
    ("os", "mkdir", (MARK,)),
    ("subprocess", "Popen", (COMMAND.split(),)),
    ("commands", "getoutput", (COMMAND,)),
    ("runpy", "run_path", (MARK,)),
    ("pathlib", "Path.touch", (MARK,)),
    ("torch", "save", ({}, MARK)),
    ("torch.serialization", "save", ({}, MARK)),
    ("torch.hub", "load", ("x", "y")),
    ("numpy", "save", (MARK, 1)),
    ("numpy.core.multiarray", "_reconstruct", ("numpy.ndarray", (10**12,), b"b")),
    ("torch._utils", "_rebuild_tensor_v2", (1, 2, 3)),
    ("torch.nn.modules.module", "Module", ()),
    ("models.yolo", "Model", (1, 2)),
    ("yolor_d2.files", "write_text", (MARK, "x")),
    ("collections", "OrderedDict", (5,)),
    ("_codecs", "encode", (7,)),
)
OPCODES = (
    *(b"N", b"}", b"]", b")", b"(", b"0", b"1", b"2", b"R", b"b", b"s", b"u", b"a", b"e", b"o"),
    *(
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x92",
        b"\x93",
        b"\x94",
        b"Q",
        b"h\xff",
        b"j\xff\xff\xff\x7f",
    ),
    *(b"r\xff\xff\xff\x7f", b"q\x00", b"\x82\x01", b"\x95" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f"),
    *(
        b"\x96" + struct.pack("<Q", 10**11),
        b"X\xff\xff\xff\x7f",
        b"B\xff\xff\xff\x7f",
        b"I1\n",
        b"L9L\n",
    ),
    *(b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"Vx\n", b"P1\n", b"F1e999\n", b".", b"t"),
)


class Corpus(NamedTuple):
    """Valid weights in plain data, and the files of a small network."""

    tensors: dict[str, Tensor]
    release: bytes
    network: dict[str, Any]


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 1), "head": nn.Linear(4, 2)})


def prepare() -> Corpus:
    tensors = small_model().state_dict()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        provenance = {"config": "MODEL: {}", "classes": {"thing_classes": ["a"]}}
        write_release(StoredWeights(tensors, "ema", provenance), path)
        release = path.read_bytes()
    cfg = tiny_config(("detection",))
    names = [f"class {k}" for k in range(THINGS)]
    network = {
        "iteration": 5,
        "model": dict(tiny_model(("detection",)).state_dict()),
        "provenance": {
            "config": cfg.dump(),
            "classes": {"thing_classes": names},
            "class_ids": {"thing_classes": list(range(len(names)))},
            "data": {},
        },
    }
    return Corpus(tensors, release, network)


def mutate(rng: Random, index: int, corpus: Corpus) -> Case:
    """Change a weight file of one of the formats."""
    kind = "network" if rng.random() < NETWORKS else rng.choice(sorted(FORMATS))
    if kind == "network":
        parts = {key: value for key, value in corpus.network.items() if key != "model"}
        tree, what = mutate_tree(rng, parts)
        content = tree if isinstance(tree, dict) else {}
        data = saved({**content, "model": corpus.network["model"], "format": 1})
        return Case({"weights.pth": data}, "network", f"network, {what}")
    suffix, make = FORMATS[kind]
    if rng.random() < 0.4:
        content, what = mutate_content(rng, kind, corpus)
        data = make(content)
    else:
        valid = corpus.release if kind == "release" else make(content_of(kind, corpus.tensors))
        data, what = mutate_file(rng, kind, valid)
    return Case({f"weights{suffix}": data}, "weights", f"{kind}: {what}")


def content_of(kind: str, tensors: dict[str, Tensor]) -> Any:
    """Return valid content of a format."""
    if kind == "detectron2":
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return {"model": arrays, "__author__": "someone"}
    return {
        "checkpoint": {
            "format": 1,
            "iteration": 3,
            "model": tensors,
            "history": [{"steps": 2, "bbox/AP": 5.0, "caption/CIDEr": None}],
            "provenance": {
                "data": {"a": {"images": {"sha256": "0" * 64, "files": 3}, "a.json": "1" * 64}},
                "argv": ["--resume"],
                "commit": None,
                "versions": {"torch": "2.6"},
            },
        },
        "averaged": {"format": 1, "model": {}, "ema": {"model": tensors}, "tokenizer": None},
        "state": tensors,
        "legacy": tensors,
        "lightning": {"state_dict": tensors, "hyper_parameters": {"lr": 0.1}, "epoch": 3},
        "module": {"model": small_model(), "epoch": 1},
        "release": {"weights": "ema", "provenance": {"classes": {}}, "tokenizer": ""},
    }[kind]


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def saved_legacy(content: Any) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


def release_of(metadata: Any) -> bytes:
    """Return a safetensors file with this metadata."""
    tensors = {name: tensor.clone() for name, tensor in small_model().state_dict().items()}
    return save(tensors, metadata={"yolor_d2": json.dumps(metadata)})


FORMATS = {
    "checkpoint": (".pth", saved),
    "averaged": (".pth", saved),
    "state": (".pt", saved),
    "legacy": (".pth", saved_legacy),
    "lightning": (".ckpt", saved),
    "module": (".pt", saved),
    "detectron2": (".pkl", pickle.dumps),
    "release": (".safetensors", release_of),
}


def mutate_content(rng: Random, kind: str, corpus: Corpus) -> tuple[Any, str]:
    """Change plain data and tensors, so that the file is valid but its content is not."""
    content = content_of(kind, corpus.tensors)
    if kind == "module" or rng.random() < 0.4:
        tree = {"a": content} if kind == "module" else content
        return mutate_tree(rng, {key: tree[key] for key in tree})
    if kind in ("release", "detectron2"):
        return mutate_tree(rng, content)
    name = rng.choice(sorted(corpus.tensors))
    what, value = rng.choice(list(strange_tensors(corpus.tensors[name]).items()))
    changed = {**corpus.tensors, name: value}
    return content_of(kind, changed), f"{name} is {what}"


def strange_tensors(tensor: Tensor) -> dict[str, Any]:
    """Return values in place of a tensor."""
    return {
        "of another shape": torch.zeros(7),
        "a number": torch.tensor(1.0),
        "empty": torch.zeros(0),
        "sparse": tensor.to_sparse(),
        "complex": tensor.to(torch.complex64),
        "of bytes": tensor.to(torch.uint8),
        "of bits": tensor > 0,
        "half": tensor.half(),
        "of eight bits": tensor.to(torch.float8_e4m3fn),
        "quantized": torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "without data": tensor.to("meta"),
        "not finite": tensor * float("nan"),
        "a view of one value": torch.zeros((), dtype=torch.half).expand(tensor.numel() * 10**9),
        "a text": "x",
        "a list": [1.0],
        "nothing": None,
        "a parameter": nn.Parameter(tensor.clone()),
        "transposed": tensor.clone().unsqueeze(0).transpose(0, -1),
    }


def mutate_file(rng: Random, kind: str, data: bytes) -> tuple[bytes, str]:
    """Change the bytes of a file, its pickle, or the entries of its archive."""
    chance = rng.random()
    if kind == "release" or chance < 0.35:
        return mutate_bytes(rng, data)
    if not data.startswith(b"PK"):
        if chance < 0.5:
            return hostile_pickle(rng)
        return _other_opcodes(rng, data) if kind == "detectron2" else mutate_bytes(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    method = zipfile.ZIP_STORED
    if chance < 0.6:
        members[name], what = hostile_pickle(rng)
    elif chance < 0.8:
        members[name], what = _other_opcodes(rng, members[name])
    elif chance < 0.9:
        name = rng.choice(sorted(members))
        members[name], what = mutate_bytes(rng, members[name])
    else:
        other = next(n for n in members if n.endswith("/data/0"))
        members[other], what = bytes(300 * 2**20 if rng.random() < 0.1 else 100), "compressed"
        method = zipfile.ZIP_DEFLATED
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file.getvalue(), f"{name}: {what}"


def hostile_pickle(rng: Random) -> tuple[bytes, str]:
    """Return a pickle that calls a function, alone or as a value of a state dict."""
    module, name, arguments = rng.choice(CALLS)
    call = pickle.dumps(arguments, 2)[2:-1]
    call = b"c" + f"{module}\n{name}\n".encode() + call + b"R"
    if rng.random() < 0.3:  # its state is set as well
        call += b"}b"
    if rng.random() < 0.5:
        call = b"}X\x05\x00\x00\x00modelq\xf0" + call + b"s"
    return b"\x80\x02" + call + b".", f"calls {module}.{name}"


def _other_opcodes(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Insert, remove or replace operations of a pickle."""
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    changed, what = bytearray(data), []
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(2, len(starts) - 1)
        operation = rng.choice(OPCODES)
        end = starts[place + 1] if rng.random() < 0.5 else starts[place]
        changed[starts[place] : end] = operation
        what.append(f"{operation[:12]!r} at {starts[place]}")
        starts = [start for start in starts if start <= starts[place]] + [len(changed)]
        if len(starts) < 5:
            break
    return bytes(changed), ", ".join(what)


def run(corpus: Corpus, case: Case) -> int | None:
    """Read the weights, and load them."""
    (name,) = case.files
    path = Path(GIVEN) / name
    if case.arguments == "network":
        network = load_network(path, device="cpu")
        assert network.tasks, "no task"
        return None
    stored = read_weights(path)
    for key, tensor in stored.tensors.items():
        assert isinstance(key, str), f"the name {key!r}"
        assert isinstance(tensor, Tensor), f"{key} is a {type(tensor).__name__}"
        assert tensor.layout == torch.strided and tensor.device.type == "cpu"  # noqa: PT018
        assert not tensor.is_complex() and not tensor.is_quantized  # noqa: PT018
        assert tensor.untyped_storage().nbytes() >= tensor.nbytes, f"{key} repeats its storage"
    assert isinstance(stored.provenance, dict)
    weights_page(stored, path)
    assert stored.tokenizer is None or isinstance(stored.tokenizer, bytes)
    model = small_model()
    report = load_weights(model, path)
    for key, value in model.state_dict().items():
        if key not in report.missing and not any(key == m.name for m in report.mismatched):
            layer = key.rpartition(".")[0]
            if any(m.name.rpartition(".")[0] == layer for m in report.mismatched):
                continue
            given = stored.tensors[key].to(value.dtype)
            assert torch.equal(value.nan_to_num(), given.nan_to_num()), f"{key} differs"
    return None


WEIGHTS = Target(
    about="weight files of all programs; right: the tensors of the file, and nothing is run",
    prepare=prepare,
    mutate=mutate,
    run=run,
    megabytes=250,
)
