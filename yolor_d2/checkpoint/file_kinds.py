"""What a file is that cannot be read as weights, for the error message."""

import zipfile
from pathlib import Path

HEAD = 4096  # bytes that are read
FOLDER = 0x10  # attribute of zip entries

CHECKPOINT = "weights are *.pth, *.pt, *.pkl or *.safetensors"
# First bytes of files, and what they are.
SIGNATURES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run git lfs pull",
    b"\x89PNG": f"is an image; {CHECKPOINT}",
    b"\xff\xd8\xff": f"is an image; {CHECKPOINT}",
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"\x89HDF": f"is an HDF5 file, as of Keras; {CHECKPOINT}",
    b"\x93NUMPY": f"is a NumPy array; {CHECKPOINT}",
    b"GGUF": f"is a GGUF file; {CHECKPOINT}",
}
# Tags of the first fields of an ONNX file: version of the format, in one byte, and producer.
ONNX_FIELDS = (b"\x08", b"\x12")
EXPORTED_PROGRAM = ("serialized_exported_program.json", "models/model.json")
EXPORTED = "pass the checkpoint that it was exported from"
GRAPH = f"which only yolor-d2 eval and the exported runner read: {EXPORTED}"


def what_it_is(path: Path) -> str:
    """Return what a file is and what to do, for the end of a sentence; "" if it is unknown."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty: copy or download it again"
    for start, what in SIGNATURES.items():
        if head.startswith(start):
            return what
    if head.startswith(b"PK"):
        return _archive(path)
    if text := _text(head):
        return text
    if path.suffix == ".onnx" or (head[:1], head[2:3]) == ONNX_FIELDS:
        return f"is an ONNX graph, {GRAPH}"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "has the format of *.safetensors: rename it so"
    return ""


def is_repacked(path: Path) -> bool:
    """Whether a file is a zip file with entries that PyTorch does not write.

    Compressed entries can expand to any size. Entries that are marked as folders are read as
    uninitialized memory; a flipped bit is sufficient for the mark.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(
                info.compress_type != zipfile.ZIP_STORED
                or info.file_size != info.compress_size
                or bool(info.external_attr & FOLDER and not info.is_dir())
                for info in archive.infolist()
            )
    except Exception:  # not a zip file; zipfile raises many types
        return False


def _archive(path: Path) -> str:
    """What a zip file is: PyTorch writes weights, TorchScript and exported programs as zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises many types
        return "is cut off: copy or download it again"
    if any(name.endswith("constants.pkl") for name in names):
        return f"is a TorchScript program: {EXPORTED}"
    if any(name.endswith(EXPORTED_PROGRAM) for name in names):
        return f"is a program of torch.export: {EXPORTED}"
    if not any(name.endswith("data.pkl") for name in names):
        return "is a zip file without weights: unpack it first"
    return ""


def _text(head: bytes) -> str:
    """What a text file is; "" for other files."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 4:  # otherwise a character is cut
            return ""
        text = head[: error.start].decode()
    if not all(character.isprintable() or character.isspace() for character in text):
        return ""
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "is a web page, as of a failed download: download it again"
    if start.startswith("<?xml") and "<net" in start:
        return f"is an OpenVINO graph, {GRAPH}"
    return f"is a text file; {CHECKPOINT}"
