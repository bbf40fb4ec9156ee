"""Caption decoding, with and without a cache of keys and values."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from yolor_d2.modeling.heads import TransformerCaptionHead, VisualTokens
from yolor_d2.modeling.heads.caption.decoding import Captions, beam_search, greedy_search
from yolor_d2.modeling.meta_arch import YOLOR

from .model_setting import Aim, Result, Row, Setting, Table, speedup, time_in_turns, time_rows

BATCHES = (1, 16)
TOKENS = 20
BEAMS = {"greedy": 1, "beam 5": 5}
MIN_SPEEDUPS = {"greedy": 4, "beam 5": 8}  # at the largest batch


@torch.no_grad()
def measure_captions(setting: Setting) -> Result:
    """Time from visual tokens to captions of exactly TOKENS tokens."""
    assert isinstance(setting.model.caption_head, TransformerCaptionHead)
    head = endless(setting.model.caption_head)
    tables, aims = [], []
    for batch in BATCHES:
        tokens = visual_tokens(setting.model, head, batch, size=setting.size)
        rows: dict[str, Row] = {}
        for name, beam_size in BEAMS.items():
            slow, fast = f"{name}, recomputed", f"{name}, cached"
            options = {"beam_size": beam_size, "max_tokens": TOKENS + 1}
            jobs = {
                slow: partial(recompute, head, tokens, **options),
                fast: partial(head.generate, tokens, **options),
            }
            times = time_in_turns(jobs, repeats=setting.repeats, device=setting.device)
            rows |= time_rows(times, base=slow)
            if batch == BATCHES[-1]:
                factor, wanted = speedup(times[slow], times[fast]), MIN_SPEEDUPS[name]
                text = (
                    f"{name} at batch {batch}: the cache makes it at least {wanted} times as fast"
                )
                aims.append(Aim(text, factor, factor >= wanted))
        tables.append(Table(f"captions of {TOKENS} tokens, batch {batch}", rows))
    return Result(tables, aims)


def endless(head: TransformerCaptionHead) -> TransformerCaptionHead:
    """Copy a head for inference so that captions end only at their maximum length."""
    head = copy.deepcopy(head).eval()
    last = head.vocabulary.usable - 1
    head.vocabulary = head.vocabulary._replace(usable=last, eos_id=last)  # never predicted before
    return head


def recompute(
    head: TransformerCaptionHead, tokens: VisualTokens, *, beam_size: int, max_tokens: int
) -> Captions:
    """Decode like `head.generate`, but recompute all previous tokens at each step.

    Each beam is a separate row of the batch, so that visual tokens are projected once per beam.
    """
    num_images = len(tokens.tokens)
    rows = VisualTokens(*(part.repeat_interleave(beam_size, dim=0) for part in tokens))
    texts = torch.zeros(num_images, beam_size, 0, dtype=torch.int64, device=rows.tokens.device)

    def step(newest: Tensor, _: int, parents: Tensor | None) -> Tensor:
        nonlocal texts
        if parents is not None:
            texts = texts.gather(1, parents[:, :, None].expand_as(texts))
        texts = torch.cat([texts, newest[:, :, None]], dim=2)  # (N, K, tokens so far)
        logits = head.text_logits(rows, texts.flatten(0, 1))[:, -1]  # (N * K, V)
        return logits.unflatten(0, (num_images, beam_size))

    search: Callable[..., Captions] = greedy_search
    if beam_size > 1:
        search = partial(beam_search, beam_size=beam_size)
    return search(
        step,
        head.vocabulary,
        num_images=num_images,
        max_tokens=max_tokens,
        device=rows.tokens.device,
    )


def visual_tokens(
    model: YOLOR, head: TransformerCaptionHead, batch: int, *, size: int
) -> VisualTokens:
    """Return visual tokens of random feature maps of square images, on the model's device."""
    rng = torch.Generator().manual_seed(0)
    shapes = model.backbone.output_shape()
    features = {}
    for name in head.in_features:
        cells = size // shapes[name].stride
        values = torch.randn(batch, shapes[name].channels, cells, cells, generator=rng)
        features[name] = values.to(model.device)
    return head(features)
