"""Hugging Face transformers' `generate`, for comparison; used by its public interface alone.

It is no part of yolor_d2 and no requirement: Apache-2.0, to be installed by who wants the
comparison. Nothing is loaded from anywhere.
"""

import os
import sys
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from yolor_d2.modeling.heads import TransformerCaptionHead, VisualTokens
from yolor_d2.modeling.heads.caption.transformer import DecoderLayer, TransformerDecoder

HOW_TO_INSTALL = (
    "transformers is not here, so its `generate` is left out; `pip install transformers`, best "
    "into an environment of its own (see docs/performance.md), or give --peer none"
)


def version() -> str | None:
    """Of transformers; None where it is not installed, which is said in one line."""
    if find_spec("transformers") is None:
        print(HOW_TO_INSTALL, file=sys.stderr)
        return None
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    return transformers.__version__


class Peer:
    """A caption head's decoder as one of transformers: the same layers with the same weights.

    Its mBART is the one of its decoders that is built like ours: norms before the layers, and one
    for the embedding.
    """

    def __init__(self, head: TransformerCaptionHead) -> None:
        """The head may be of any size, but has to be tied."""
        from transformers import MBartConfig, MBartForConditionalGeneration

        if head.output is not None:
            raise ValueError(
                "MODEL.CAPTION_HEAD.TIED is False; transformers' decoder is tied (--peer none)"
            )
        pad_id, bos_id, eos_id, usable = head.vocabulary
        layers = list(head.decoder.each_layer())
        heads, ffn_dim = layers[0].text_attention.num_heads, layers[0].ffn[0].out_features
        vocab_size, dim = head.text.words.weight.shape
        config = MBartConfig(
            vocab_size=vocab_size,
            max_position_embeddings=head.text.positions.num_embeddings,
            d_model=dim,
            decoder_layers=len(layers),
            decoder_ffn_dim=ffn_dim,
            decoder_attention_heads=heads,
            # It has to have an encoder, which does nothing: the visual tokens are given.
            encoder_layers=len(layers),
            encoder_ffn_dim=ffn_dim,
            encoder_attention_heads=heads,
            activation_function="relu",
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            decoder_start_token_id=bos_id,
            eos_token_id=eos_id,
            forced_eos_token_id=None,
        )
        config._attn_implementation = "sdpa"  # as ours
        self.model: Any = MBartForConditionalGeneration(config).to(head.text.words.weight).eval()
        with torch.no_grad():
            _copy_embedding(self.model.model.decoder, head)
            _copy_layers(self.model.model.decoder, head.decoder)
            never = torch.tensor([pad_id, bos_id, *range(usable, vocab_size)])
            self.model.final_logits_bias[:, never] = -torch.inf

    def generate(self, tokens: VisualTokens, *, beam_size: int, new_tokens: int) -> Tensor:
        """Exactly so many tokens: ids (N, 1 + new_tokens), of which the first is the begin."""
        from transformers.modeling_outputs import BaseModelOutput

        search = {"length_penalty": 0.0} if beam_size > 1 else {}
        return self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=tokens.tokens),
            attention_mask=(~tokens.padding).long(),
            num_beams=beam_size,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            **search,
        )


def _copy_embedding(theirs: Any, head: TransformerCaptionHead) -> None:
    theirs.embed_tokens.weight.copy_(head.text.words.weight)
    offset = theirs.embed_positions.offset
    theirs.embed_positions.weight[offset:].copy_(head.text.positions.weight)
    theirs.layernorm_embedding.load_state_dict(head.text.norm.state_dict())


def _copy_layers(theirs: Any, ours: TransformerDecoder) -> None:
    theirs.layer_norm.load_state_dict(ours.norm.state_dict())
    for their_layer, layer in zip(theirs.layers, ours.each_layer(), strict=True):
        _copy_layer(their_layer, layer)


def _copy_layer(theirs: Any, ours: DecoderLayer) -> None:
    text, visual = ours.text_attention, ours.visual_attention
    attention = theirs.self_attn
    _split(text.query_key_value, attention.q_proj, attention.k_proj, attention.v_proj)
    _split(text.output, attention.out_proj)
    attention = theirs.encoder_attn
    _split(visual.query, attention.q_proj)
    _split(visual.key_value, attention.k_proj, attention.v_proj)
    _split(visual.output, attention.out_proj)
    _split(ours.ffn[0], theirs.fc1)
    _split(ours.ffn[3], theirs.fc2)
    theirs.self_attn_layer_norm.load_state_dict(ours.text_norm.state_dict())
    theirs.encoder_attn_layer_norm.load_state_dict(ours.visual_norm.state_dict())
    theirs.final_layer_norm.load_state_dict(ours.ffn_norm.state_dict())


def _split(ours: nn.Module, *theirs: nn.Linear) -> None:
    """Copy a linear layer to several, one below the other."""
    for name in ("weight", "bias"):
        parts = ours.get_parameter(name).chunk(len(theirs))
        for layer, part in zip(theirs, parts, strict=True):
            layer.get_parameter(name).copy_(part)
