"""Caption decoding with `generate` of Hugging Face transformers, for comparison.

transformers (Apache-2.0) is an optional package, not a requirement of yolor_d2. Only its public
interface is used, and no weights are downloaded.
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
    "transformers is not installed and is skipped; `pip install transformers` in a separate "
    "environment (see docs/internals/performance.md), or pass --peer none"
)


def version() -> str | None:
    """Return the version of transformers, or print how to install it and return None."""
    if find_spec("transformers") is None:
        print(HOW_TO_INSTALL, file=sys.stderr)
        return None
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    return transformers.__version__


class Peer:
    """The mBART decoder of transformers with the weights of a caption head.

    Like yolor_d2's decoder, mBART has pre-norm layers and normalizes the embedding.
    """

    def __init__(self, head: TransformerCaptionHead) -> None:
        """
        Args:
            head: a caption head of any size whose output layer is tied to the embedding.
        """
        from transformers import MBartConfig, MBartForConditionalGeneration

        if head.output is not None:
            raise ValueError(
                "MODEL.CAPTION_HEAD.TIED is False, but mBART's output layer is tied (--peer none)"
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
            # The encoder is required but not used: the visual tokens replace its output.
            encoder_layers=len(layers),
            encoder_ffn_dim=ffn_dim,
            encoder_attention_heads=heads,
            activation_function="relu",
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            decoder_start_token_id=bos_id,
            eos_token_id=eos_id,
            forced_eos_token_id=None,
            attn_implementation="sdpa",  # as in yolor_d2
        )
        self.model: Any = MBartForConditionalGeneration(config).to(head.text.words.weight).eval()
        with torch.no_grad():
            _copy_embedding(self.model.model.decoder, head)
            _copy_layers(self.model.model.decoder, head.decoder)
            excluded = torch.tensor([pad_id, bos_id, *range(usable, vocab_size)])
            self.model.final_logits_bias[:, excluded] = -torch.inf

    def generate(self, tokens: VisualTokens, *, beam_size: int, new_tokens: int) -> Tensor:
        """Decode exactly `new_tokens` tokens: ids (N, 1 + new_tokens), begin token first."""
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


def _copy_embedding(target: Any, head: TransformerCaptionHead) -> None:
    target.embed_tokens.weight.copy_(head.text.words.weight)
    offset = target.embed_positions.offset
    target.embed_positions.weight[offset:].copy_(head.text.positions.weight)
    target.layernorm_embedding.load_state_dict(head.text.norm.state_dict())


def _copy_layers(target: Any, source: TransformerDecoder) -> None:
    target.layer_norm.load_state_dict(source.norm.state_dict())
    for target_layer, layer in zip(target.layers, source.each_layer(), strict=True):
        _copy_layer(target_layer, layer)


def _copy_layer(target: Any, source: DecoderLayer) -> None:
    text, visual = source.text_attention, source.visual_attention
    attention = target.self_attn
    _copy_linear(text.query_key_value, attention.q_proj, attention.k_proj, attention.v_proj)
    _copy_linear(text.output, attention.out_proj)
    attention = target.encoder_attn
    _copy_linear(visual.query, attention.q_proj)
    _copy_linear(visual.key_value, attention.k_proj, attention.v_proj)
    _copy_linear(visual.output, attention.out_proj)
    _copy_linear(source.ffn[0], target.fc1)
    _copy_linear(source.ffn[3], target.fc2)
    target.self_attn_layer_norm.load_state_dict(source.text_norm.state_dict())
    target.encoder_attn_layer_norm.load_state_dict(source.visual_norm.state_dict())
    target.final_layer_norm.load_state_dict(source.ffn_norm.state_dict())


def _copy_linear(source: nn.Module, *targets: nn.Linear) -> None:
    """Copy the row blocks of a linear layer to several layers."""
    for name in ("weight", "bias"):
        parts = source.get_parameter(name).chunk(len(targets))
        for layer, part in zip(targets, parts, strict=True):
            layer.get_parameter(name).copy_(part)
