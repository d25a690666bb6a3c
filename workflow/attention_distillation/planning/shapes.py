"""What a model's shape costs: operations and memory traffic of a forward and of a training step, without loading it.

``model_type`` and the sizes are those of a config.json. Operations are those of matrix products and of attention; what
else a model does is small beside them at the sizes where a plan matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from ..files import InputError, read_json
from ..jobs.room import weights
from ..models import encoder_folder
from ..settings import WORKFLOW, Pretraining

WORLD_WORDS = 541  # of the word-level tokenizer that a generated world's models have


LEARNED_POSITIONS = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra", "ernie", "dpr")


@dataclass(frozen=True)
class Shape:
    """A model's sizes.

    Attributes:
        parameters: all its weights.
        context_weights: those that every token of the context is multiplied with.
        answer_weights: those that an answer's token is multiplied with: all of a decoder-only model and its head, the
            decoder's own of a T5.
        layers: of the encoder, or of the only stack.
        width: of attention, all heads together.
        size: of a hidden state: a retriever's d_emb.
        vocabulary: of the tokenizer.
        linear_ends: inputs and outputs of its linear layers, all together: adapters have so many weights a rank.
        download_bytes: of the published weights; 0 where nothing is fetched.
        stored_bytes: of the directory that is made of them.
    """

    parameters: int
    context_weights: int
    answer_weights: int
    layers: int
    width: int
    size: int
    vocabulary: int
    linear_ends: int
    download_bytes: float = 0
    stored_bytes: float = 0

    def read_flops(self, tokens: int, span: int) -> float:
        """Operations to read ``tokens`` tokens that attend to each other in spans of ``span``."""
        return 2 * self.context_weights * tokens + 4 * self.layers * self.width * tokens * span

    def answer_flops(self, answer: int, context: int) -> float:
        """Operations of ``answer`` tokens that attend to ``context`` tokens."""
        return 2 * self.answer_weights * answer + 4 * self.layers * self.width * answer * context


def of_config(
    config: dict, parameters: int | None = None, download_bytes: float = 0, *, encoder_only: bool = False
) -> Shape:
    """The shape that a config.json states; ``parameters`` are added up where they are not known.

    Args:
        encoder_only: of a T5, whose checkpoint may hold its decoder too, the encoder.

    Raises:
        InputError: it states no sizes.
    """

    config = {**config, **config.get("text_config", {})}  # of a model with more senses the text model

    def stated(*names: str) -> int:
        for name in names:
            if config.get(name):
                return int(config[name])
        raise InputError(f"a model's config has none of {', '.join(names)}: no plan can be made for it.")

    size, vocabulary = stated("d_model", "hidden_size", "n_embd", "dim"), stated("vocab_size")
    layers = stated("num_layers", "num_hidden_layers", "n_layer", "n_layers")
    embeddings = vocabulary * config.get("embedding_size", size)  # ALBERT's and ELECTRA's are narrower
    if config["model_type"] in ("t5", "mt5"):
        width, d_ff = stated("num_heads") * stated("d_kv"), stated("d_ff")
        products = 3 if "gated" in config.get("feed_forward_proj", "") else 2
        attention, feed_forward = 4 * size * width, products * size * d_ff
        encoder = layers * (attention + feed_forward)
        ends = layers * (4 * (size + width) + products * (size + d_ff))
        if encoder_only:
            return Shape(encoder + embeddings, encoder, 0, layers, width, size, vocabulary, ends, download_bytes)
        decoder = stated("num_decoder_layers", "num_layers") * (2 * attention + feed_forward)
        ends += stated("num_decoder_layers", "num_layers") * (8 * (size + width) + products * (size + d_ff))
        keys = stated("num_decoder_layers", "num_layers") * 2 * size * width  # of the context, for cross-attention
        tables = embeddings * (1 if config.get("tie_word_embeddings", True) else 2)
        total = parameters or encoder + decoder + tables
        return Shape(
            total, encoder + keys, decoder - keys + embeddings, layers, width, size, vocabulary, ends, download_bytes
        )
    positions = config.get("max_position_embeddings", 0) * size if config["model_type"] in LEARNED_POSITIONS else 0
    tables = positions + embeddings * (1 if config.get("tie_word_embeddings", True) else 2)
    heads = config.get("num_attention_heads", 1)
    width = heads * (config.get("head_dim") or size // heads)
    grouped = width * config.get("num_key_value_heads", heads) // heads
    d_ff, products = config.get("intermediate_size") or 4 * size, 3 if _is_gated(config) else 2
    ends = layers * (2 * (size + width) + 2 * (size + grouped) + products * (size + d_ff))
    total = parameters or layers * size * (2 * width + 2 * grouped + products * d_ff) + tables
    context = total - tables
    if config["model_type"] == "albert":  # its layers share one set of weights
        context *= layers // config.get("num_hidden_groups", 1)
    return Shape(total, context, context + embeddings, layers, width, size, vocabulary, ends, download_bytes)


def _is_gated(config: dict) -> bool:
    """Whether a layer's feed-forward has a third matrix, as in Llama, Mistral, Qwen and Gemma."""
    return config.get("hidden_act") in ("silu", "swish") or config["model_type"].startswith(("gemma", "modernbert"))


def of_encoder(folder: str | Path) -> Shape:
    """The shape of a text encoder: of a T5 its encoder alone; vectors as long as its last module makes them."""
    (one,) = encoder_folder.describe(folder)
    config = read_json(one.transformer / "config.json")
    return replace(of_config(config, weights(folder) or None, encoder_only=True), size=one.size)


def together(parts: Sequence[Shape]) -> Shape:
    """A retriever's encoders as one: a text passes through one of them, the weights of all are held."""
    return replace(
        parts[-1],
        parameters=sum(part.parameters for part in parts),
        download_bytes=sum(part.download_bytes for part in parts),
        stored_bytes=sum(part.stored_bytes for part in parts),
    )


@cache
def _published() -> dict:
    return yaml.safe_load((WORKFLOW / "reference" / "models.yaml").read_text(encoding="utf-8"))


def of_model(given: str | None, kind: str, fetched: str | Path, pretraining: Pretraining | None, world: bool) -> Shape:
    """The shape of a scale's model: from its directory, else as published, else as it is to be pretrained.

    Args:
        given: a directory or a hub id, or None where it is pretrained here.
        kind: ``reader``, ``encoder_decoder`` or ``retriever``.
        fetched: where the workflow lays it.
        pretraining: how a small model is made.
        world: the corpus is a generated world, whose tokenizer is a list of words.

    Raises:
        InputError: a hub model that is neither here nor in the table.
    """
    beside = WORKFLOW.parent / given if given else None  # where a scale's own models are, wherever this is called from
    for folder in filter(None, (given, beside, fetched)):
        config = Path(folder) / "config.json"
        if kind == "retriever" and Path(folder).is_dir():
            return of_encoder(folder)
        if config.exists():
            return of_config(read_json(config), weights(folder) or None)
    if given is not None:
        if given not in _published():
            raise InputError(
                f"models.{kind}: nothing is known of the size of '{given}': fetch it (snakemake --cores 1 {fetched}) "
                "or add it to workflow/reference/models.yaml."
            )
        row = dict(_published()[given])
        shape = of_config(row, row["parameters"], row["download_bytes"])
        return replace(shape, stored_bytes=row.get("stored_bytes", row["download_bytes"]))
    width, heads = pretraining.hidden_size, pretraining.heads
    sizes = {"vocab_size": WORLD_WORDS if world else pretraining.vocabulary}
    if kind == "encoder_decoder":
        layers = {"num_layers": pretraining.layers, "num_decoder_layers": pretraining.layers}
        shape = {"d_model": width, "num_heads": heads, "d_kv": width // heads, "d_ff": 2 * width}
        return of_config({"model_type": "t5", "feed_forward_proj": "gated-gelu", **sizes, **layers, **shape})
    model_type, positions = ("bert", 512) if kind == "retriever" else ("falcon", 0)
    shape = {"hidden_size": width, "num_hidden_layers": pretraining.layers, "max_position_embeddings": positions}
    return of_config({"model_type": model_type, **sizes, **shape})
