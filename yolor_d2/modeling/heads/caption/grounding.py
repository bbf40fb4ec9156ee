"""Teaches the caption decoder where the objects are that it names.

Only a few words of a caption say where an object is. From these words alone a decoder hardly learns
to find the named object among the visual tokens: it repeats frequent statements instead.

Shapes: N images, K captions of an image, T text tokens, L visual tokens, M objects of an image, D
width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....data.views.mentions import NO_CLASS
from ...reduce import over_processes
from .options import GroundingOptions
from .regions import Regions
from .transformer import DecoderLayer, attention_mask, linear_layer

NO_OBJECT = NO_CLASS - 1  # the class of padding


class KnownObjects(NamedTuple):
    """What captions should know of objects."""

    classes: Tensor  # (N, M), NO_OBJECT for padding
    places: Tensor  # (N, M, 4) center and size, relative to the image


class GroundedTokens(NamedTuple):
    """`VisualTokens` that begin with the tokens of objects."""

    tokens: Tensor  # (N, L, D)
    padding: Tensor  # (N, L)
    objects: KnownObjects


def known_objects(regions: Regions, places: Tensor) -> KnownObjects:
    """Objects with their most probable classes."""
    classes = regions.scores.argmax(dim=2).masked_fill(regions.padding, NO_OBJECT)
    return KnownObjects(classes, places)


class Grounding(nn.Module):
    """Losses of the decoder's first layer at the names of classes.

    - Attention: one head attends to the objects of the class.
    - Location: a small network predicts from the layer's output where one of them is. The decoder
      chooses which one, as "a red ball" is one of several balls.

    Neither changes predictions or their cost.
    """

    def __init__(self, dim: int, options: GroundingOptions) -> None:
        super().__init__()
        self.options = options
        self.location = nn.Sequential(linear_layer(dim, dim), nn.ReLU(), linear_layer(dim, 4))

    def losses(
        self,
        layer: DecoderLayer,
        text: Tensor,
        visual: GroundedTokens,
        mentions: Tensor,
    ) -> dict[str, Tensor]:
        """The weighted losses.

        Args:
            layer: the first one of the decoder.
            text: (N * K, T, D) embedded tokens.
            visual: of the images.
            mentions: (N, K, T) the class whose name ends at a token, or NO_CLASS.
        """
        classes, places = visual.objects
        named = mentions.flatten(1)[:, :, None] == classes[:, None]  # (N, K * T, M)
        count, processes = over_processes(named.any(dim=2).sum())
        share = processes / count.clamp(min=1)

        mask = attention_mask(visual.padding)  # (N, 1, 1, L)
        tokens = layer.visual_attention.project(visual.tokens)
        x = layer.attend_to_text(text).view(*named.shape[:2], -1)  # (N, K * T, D)
        scores = layer.visual_attention.scores_of_first_head(layer.visual_norm(x), tokens)
        attention = _attention_losses(scores.masked_fill(~mask[:, 0], -torch.inf), named)
        guesses = self.location(layer.attend_to_image(x, tokens, mask))  # (N, K * T, 4)
        location = _location_losses(guesses, places, named)
        return {
            "loss_caption_attention": self.options.attention_weight * share * attention.sum(),
            "loss_caption_location": self.options.location_weight * share * location.sum(),
        }


def _attention_losses(scores: Tensor, named: Tensor) -> Tensor:
    """-log of the attention to named objects.

    Args:
        scores: (N, T, L) logits of the attention.
        named: (N, T, M) bool: which of the first M visual tokens are named.

    Returns:
        (N, T), 0 where no object is named.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    logs = scores.log_softmax(dim=2, dtype=dtype)[:, :, : named.shape[2]]  # (N, T, M)
    # A finite number: without a named object, infinity would give NaN gradients.
    hit = logs.masked_fill(~named, -1e4).logsumexp(dim=2)
    return (-hit).where(named.any(dim=2), 0.0)


def _location_losses(guesses: Tensor, places: Tensor, named: Tensor) -> Tensor:
    """Distance to the closest named object.

    Args:
        guesses: (N, T, 4).
        places: (N, M, 4).
        named: (N, T, M) bool.

    Returns:
        (N, T), 0 where no object is named.
    """
    guesses = guesses.to(torch.promote_types(guesses.dtype, torch.float32))
    distances = (guesses[:, :, None] - places[:, None]).abs().mean(dim=3)  # (N, T, M)
    closest = distances.masked_fill(~named, torch.inf).amin(dim=2)
    return closest.where(named.any(dim=2), 0.0)
