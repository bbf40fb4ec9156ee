"""Conversion of published weight files to checkpoints and releases of yolor_d2."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..files import replacing
from .published import PublishedNetwork, find_network, read_published, recognize, unwrapped
from .published.configuration import check_shapes, configuration_of, own_classes
from .release import SUFFIX, StoredWeights, write_release


def convert_file(
    path: Path, output: Path, *, version: str, source: str | None = None
) -> tuple[PublishedNetwork, int]:
    """Convert a published weight file.

    Args:
        path: the published file.
        output: the file to write, atomically: *.safetensors, which also has the configuration of
            the network, or *.pth, for detectron2's checkpointer.
        version: of yolor_d2, for the provenance.
        source: name of the published network; None: it is recognized by the names of the weights.

    Returns:
        The network, and the number of tensors.

    Raises:
        ValueError: the file does not contain the weights of `source`, or of a known network.
    """
    if output.suffix not in (SUFFIX, ".pth"):
        raise OptionError(f"{output}: must end in {SUFFIX}, or in .pth for detectron2")
    file = read_published(path)
    state = unwrapped(file.tensors)
    network = recognize(state) if source is None else find_network(source)
    weights = network.convert(state)
    classes = own_classes(weights, file.class_names)
    cfg = configuration_of(network, weights, classes)
    check_shapes(cfg, weights, name=network.name)
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    provenance = {
        "source": network.name,
        "file": path.name,
        "sha256": digest,
        "yolor_d2": version,
        **_publication(network),
    }
    if output.suffix == SUFFIX:
        if classes:
            provenance["classes"] = {"thing_classes": classes}
        provenance |= {"config": cfg.dump(), "network": network.name}
        write_release(StoredWeights(weights, provenance=provenance), output)
    else:
        _write_checkpoint(weights, provenance, output)
    return network, len(weights)


def _publication(network: PublishedNetwork) -> dict[str, Any]:
    publication = network.publication
    return {
        "repository": publication.repository,
        "license": publication.license,
        "published_results": dict(publication.results),
    }


def _write_checkpoint(
    weights: Mapping[str, Tensor], provenance: Mapping[str, Any], output: Path
) -> None:
    content = {"model": dict(weights), "__author__": "yolor_d2", "provenance": dict(provenance)}
    with replacing(output, sync=True) as file:
        torch.save(content, file)
