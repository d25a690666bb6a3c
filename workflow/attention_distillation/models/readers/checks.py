"""Is a model what a reader must be? Asked of the very model, with a few forwards, before any work rests on it.

No list of classes is complete, and a model that is read wrongly gives numbers that look right. So each is seen to look
at nothing that comes later, to have its attention recorded whole, and to give a padded batch what it gives its
questions one by one.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...files import InputError
from .base import Encoded, Reader
from .decoder_only import DecoderOnlyReader
from .prompt import windows

QUESTIONS = ["where was the lighthouse keeper born ?", "who built it"]
PASSAGES = [
    [("Lighthouse", "The keeper was born in a village near the northern coast ."), ("Coast", "It is long .")],
    [("Tower", "It was built by Anna ."), ("Anna", "She lived there .")],
]
ANSWERS = ["near the northern coast", "Anna"]
TOLERANCE = 2e-3
"""Of losses, and of attention in parts of its largest value; rounding in float32 stays two orders below."""
LATER = 1e-4
"""Of logits, in parts of their spread. In a causal model a later token changes nothing; a masked one with its first,
nearly uniform attention still moves by some 1e-3."""


def check_reader(reader: Reader) -> dict:
    """See that a reader is read and recorded rightly; returns what is to be known of it.

    Returns:
        ``model`` (its class), ``layers``, ``layers_recorded``, ``end`` (the token that ends an answer), ``around`` (how
        many tokens a sequence may have beside prompts and answer), ``layers_with_window`` and the tokens that these
        see, ``window`` (0: all).

    Raises:
        InputError: it is not; says why.
    """
    name = f"{reader.model.config.name_or_path or 'models.reader'} ({type(reader.model).__name__})"
    reader.eval()
    config = reader.model.config
    if not config.is_encoder_decoder and getattr(config, "is_decoder", None) is False and _masked(config):
        raise InputError(
            f"{name}: a masked language model, whose config does not say is_decoder; a reader must be a causal one."
        )
    with torch.no_grad():
        encoded = reader.encode(QUESTIONS, PASSAGES, ANSWERS).to(reader.device)
        if isinstance(reader, DecoderOnlyReader):
            _require_causal(reader, encoded, name)
        try:
            output = reader(encoded, record=True)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{name}: its attention cannot be recorded: {error}.") from error
        for number in range(len(QUESTIONS)):
            one = reader.encode(*([part[number]] for part in (QUESTIONS, PASSAGES, ANSWERS))).to(reader.device)
            _require_equal(reader(one, record=True), output, number, one, encoded, name)
        reader.generate(reader.encode(QUESTIONS, PASSAGES))
    recorded, layers = reader.recorded_layers
    causal = isinstance(reader, DecoderOnlyReader)
    near, _, window = windows(reader.model.config) if causal else (0, 0, 0)
    return {
        "model": type(reader.model).__name__,
        "layers": layers,
        "layers_recorded": recorded,
        "layers_with_window": near,
        "window": window,
        "around": reader.around if causal else 0,
        "end": reader.tokenizer.convert_ids_to_tokens(reader.end_id),
    }


def _masked(config) -> bool:
    """Whether transformers has a masked language model of this kind, which is causal only with ``is_decoder``."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _require_causal(reader: DecoderOnlyReader, encoded: Encoded, name: str) -> None:
    """A later token must not change what was predicted before it."""
    length = encoded.ids.shape[1]
    before = reader.logits(encoded, length)
    ids = encoded.ids.clone()
    ids[:, -1] = encoded.ids[:, 0]  # the end of the answer becomes another token
    ids[encoded.ids[:, -1] == ids[:, -1], -1] = encoded.labels[0, 0].clamp(min=0)
    after = reader.logits(replace(encoded, ids=ids), length)
    real = encoded.mask.bool()[:, :-1]
    change = (after - before)[:, :-1][real].abs().max()
    if not change <= LATER * before[:, :-1][real].std():
        raise InputError(
            f"{name}: a later token changes what it predicts before it, so that it sees the answer that it is to give; "
            "a reader must be a causal language model (no masked, prefix or bidirectional one)."
        )


def _require_equal(one, output, number: int, alone: Encoded, encoded: Encoded, name: str) -> None:
    single, together = float(one.answer_loss[0]), float(output.answer_loss[number])
    own = alone.mask.flatten(1)[0].bool()
    real = encoded.mask.flatten(1)[number].bool()
    left, right = one.token_attention[0][own], output.token_attention[number][real]
    same_loss = abs(single - together) <= TOLERANCE * max(1.0, abs(single))
    if not same_loss or not (left - right).abs().max() <= TOLERANCE * left.max():
        raise InputError(
            f"{name}: in a padded batch it reads otherwise than by itself (loss {together:.4f} and {single:.4f}): "
            "its class does not leave padding out."
        )
