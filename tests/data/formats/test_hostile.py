"""Labels from strangers: nothing in them is run, and they name no other files of the machine."""

from pathlib import Path

import pytest

from yolor_d2.data.formats.registration import register_own_data
from yolor_d2.errors import DataError

from .conftest import Make

TAGS = "names: !!python/object/apply:os.mkdir [trace]\ntrain: images/train\n"
SCRIPT = "download: |\n  import os\n  os.mkdir('trace')\n"


def test_yaml_is_not_run(make: Make) -> None:
    """Neither its Python tags nor the script that other programs run to download data."""
    root = make("yolo")
    file = root / "data.yaml"
    file.write_text(file.read_text() + SCRIPT)
    register_own_data(str(root))
    file.write_text(TAGS)
    with pytest.raises(DataError, match=r"data\.yaml, line 1: is not valid YAML"):
        register_own_data(str(root))
    assert not Path("trace").exists()


LAUGHS = " ".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    "types",
    [
        '<!ENTITY name SYSTEM "file:///etc/passwd">',
        '<!ENTITY name SYSTEM "http://127.0.0.1:9/name">',
        f'<!ENTITY a0 "haha"> {LAUGHS} <!ENTITY name "&a9;">',
    ],
    ids=["file", "address", "a billion laughs"],
)
def test_entities_of_xml_are_refused(make: Make, types: str) -> None:
    root = make("voc")
    file = root / "Annotations/2.xml"  # the first one shows the format
    text = file.read_text().replace("<name>ball</name>", "<name>&name;</name>")
    assert "&name;" in text
    file.write_text(f"<!DOCTYPE annotation [{types}]>\n{text}")
    with pytest.raises(DataError, match=r"\.xml, line \d+: is not valid XML") as error:
        register_own_data(str(root))
    assert "root:" not in str(error.value)
