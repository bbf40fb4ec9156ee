"""Zip files of images for predictions, and of images and labels for training."""

import io
import json
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.data.views.reading import RecordReader
from yolor_d2.errors import BadFileError
from yolor_d2.inference.media import open_media

from ..byte_mutators import mutate_bytes
from ..cases import GIVEN, Case, Target
from ..corpus import captions, instances, png
from .images import check_pixels, decoded_by_pillow

BOMB_MEGABYTES = 300
NAMES = (
    *("../outside.png", "/outside.png", "a/../../outside.png", "..\\outside.png", "C:\\x.png"),
    *("x" * 300 + ".png", "a\nb.png", "1.png", "photos/1.png", "1.png/2.png", ".hidden.png"),
    *("folder.png/", "./1.png", "//1.png", "photos.zip/1.png", "\u202egnp.png", "label.txt"),
)


class Member(NamedTuple):
    """An entry of an archive."""

    name: str
    data: bytes
    method: int = zipfile.ZIP_DEFLATED
    mode: int = stat.S_IFREG | 0o644


class Corpus(NamedTuple):
    """Entries of valid archives, and an archive with one that expands a thousandfold."""

    images: list[Member]
    labels: list[Member]
    bomb: bytes


def prepare() -> Corpus:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("photos/1.png", "w") as member:
            for _ in range(BOMB_MEGABYTES):
                member.write(bytes(2**20))
        archive.writestr("photos/2.png", png())
    names = {"instances": instances(), "captions": captions()}
    return Corpus(
        images=[Member(f"photos/{number}.png", png()) for number in (1, 2, 3)],
        labels=[
            Member(f"annotations/{kind}_train2017.json", json.dumps(content).encode())
            for kind, content in names.items()
        ],
        bomb=file.getvalue(),
    )


def pack(members: Sequence[Member]) -> bytes:
    """Return an archive; names may occur twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name)
            info.external_attr = member.mode << 16
            info.compress_type = member.method
            archive.writestr(info, member.data)
    return file.getvalue()


def mutate(rng: Random, index: int, corpus: Corpus) -> Case:
    """Change the entries of an archive, or its bytes."""
    if rng.random() < 0.6:
        data, what = _mutate_archive(rng, corpus.images, corpus.bomb)
        return Case({"photos.zip": data}, "predict", what)
    split = [
        member._replace(name=f"train2017/{Path(member.name).name}") for member in corpus.images
    ]
    files = {"train2017.zip": pack(split), "annotations_trainval2017.zip": pack(corpus.labels)}
    name = rng.choice(sorted(files))
    members = split if name == "train2017.zip" else corpus.labels
    files[name], what = _mutate_archive(rng, members, corpus.bomb)
    return Case(files, "train", f"{name}: {what}")


def _mutate_archive(rng: Random, members: Sequence[Member], bomb: bytes) -> tuple[bytes, str]:
    kind = rng.random()
    if kind < 0.02:
        return bomb, "bomb"
    if kind < 0.45:
        return mutate_bytes(rng, pack(members))
    if kind < 0.55:
        return _with_wrong_fields(rng, pack(members))
    changed, place = list(members), rng.randrange(len(members))
    member = changed[place]
    what = rng.choice(("name", "name", "double", "link", "method", "content", "nothing", "many"))
    if what == "name":
        changed[place] = member._replace(name=rng.choice(NAMES))
    elif what == "double":
        changed.append(member._replace(data=rng.choice((b"", b"x", member.data))))
    elif what == "link":
        target = rng.choice((b"/etc/passwd", b"../../outside", b"2.png"))
        changed[place] = member._replace(data=target, mode=stat.S_IFLNK | 0o777)
    elif what == "method":
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        changed[place] = member._replace(method=rng.choice(methods))
    elif what == "content":
        changed[place] = member._replace(data=mutate_bytes(rng, member.data)[0])
    elif what == "many":
        changed += [member._replace(name=f"{k}.txt", data=b"") for k in range(2000)]
    else:
        changed = changed if rng.random() < 0.5 else []
    return pack(changed), what


def _with_wrong_fields(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Change a field of the central directory or of the end of an archive."""
    changed = bytearray(data)
    signature, fields = rng.choice(
        ((b"PK\1\2", (8, 10, 16, 20, 24, 28, 42)), (b"PK\5\6", (8, 10, 12, 16)))
    )
    places = [k for k in range(len(data) - 4) if data[k : k + 4] == signature]
    start = rng.choice(places) + rng.choice(fields)
    size = rng.choice((1, 2, 4))
    changed[start : start + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
    return bytes(changed), f"field {start} of the directory"


def run(corpus: Corpus, case: Case) -> int | None:
    """Read all images, and compare them with those in the archive."""
    errors: list[BadFileError] = []
    count = 0
    if case.arguments == "predict":
        media = open_media(Path(GIVEN).absolute() / "photos.zip")
        for picture in media.pictures(errors.append):
            check_member(Path(picture.name), picture.pixels)
            count += 1
    else:
        found = register_own_data(GIVEN)
        reader = RecordReader()
        for record in found.data.records():
            try:
                check_member(Path(record["file_name"]), reader.pixels(record))
                count += 1
            except BadFileError as error:
                errors.append(error)
    assert all("\n" not in str(error) for error in errors), "an error of several lines"
    if not count and errors:
        raise errors[0]
    return None


def check_member(path: Path, pixels: object) -> None:
    """Pixels are those of the entry of this name."""
    parts = [*path.parts]
    place = next(k for k, part in enumerate(parts) if part.endswith(".zip"))
    archive, name = Path(*parts[: place + 1]), "/".join(parts[place + 1 :])
    assert ".." not in parts, f"{path} leaves its archive"
    with zipfile.ZipFile(archive) as opened:
        names = [n for n in (name, f"{archive.stem}/{name}") if n in opened.namelist()]
        assert names, f"{name} is not in the archive"
        check_pixels(pixels, decoded_by_pillow(opened.read(names[0])))  # type: ignore[arg-type]


ZIPS = Target(
    about="zip files of images and of COCO data; right: the pixels of the named entry",
    prepare=prepare,
    mutate=mutate,
    run=run,
    megabytes=BOMB_MEGABYTES // 2,
)
