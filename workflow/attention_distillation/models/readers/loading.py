"""A reader's directory to a model: of the class that its config names, the text model alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...files import InputError
from ...jobs import runtime
from ..weights import load_model, require_weights

TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")


def load_tokenizer(folder: str | Path):
    """The fast tokenizer of a directory.

    Raises:
        InputError: there are no weights, no tokenizer beside them, or no fast one.
    """
    from transformers import AutoTokenizer

    require_weights(folder)
    if not any((Path(folder) / name).exists() for name in TOKENIZER_FILES):  # transformers may make up an empty one
        raise InputError(f"{folder}: no tokenizer ({', '.join(TOKENIZER_FILES)}); save it beside the weights.")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast:
        raise InputError(f"{folder}: no fast tokenizer (tokenizer.json); segment maps need its offsets.")
    return tokenizer


def load(model_class: Callable, folder: str | Path, bits: int | None = None):
    """The language model of a directory, on SDPA where its class has it, else on its own attention.

    Of a directory of several models (text, images, sound) the text model is taken.

    Args:
        model_class: gives the class for a config.
        bits: 8 or 4: linear layers but the head are held so, quantised while they are read; None: float32.

    Raises:
        InputError: no weights, not all of them, a model that is no such reader, or no bitsandbytes where it is needed.
    """
    from transformers import AutoConfig

    require_weights(folder)
    config = AutoConfig.from_pretrained(folder)
    made = model_class(config)
    attention = "sdpa" if made._supports_sdpa else "eager"
    model = load_model(made, folder, attn_implementation=attention, **(_quantised(bits) if bits else {}))
    text = config.get_text_config(decoder=True)
    if text is config or type(model.config) is type(text):
        return model
    return _text_model(model, model_class(text))


def require_quantisable(model) -> None:
    """See that a model, in float32, has linear layers that bitsandbytes knows: those that it does not it leaves alone.

    Raises:
        InputError: it has none but its head.
    """
    from transformers.pytorch_utils import Conv1D

    layers = (module for module in model.modules() if module is not model.get_output_embeddings())
    if not any(type(module) in (torch.nn.Linear, Conv1D) for module in layers):
        raise InputError(
            f"models.reader_bits: the linear layers of {type(model).__name__} are of a class of its own, which "
            "bitsandbytes leaves as they are; drop reader_bits."
        )


def _quantised(bits: int) -> dict:
    """Options of ``from_pretrained``: LLM.int8 [Dettmers 2022], or NF4 [Dettmers 2023], on the job's device."""
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise InputError(
            "models.reader_bits: bitsandbytes cannot be imported; install envs/requirements-models.txt."
        ) from None
    how = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    return {"quantization_config": BitsAndBytesConfig(**how), "device_map": {"": runtime.device()}}


def _text_model(whole, made):
    """The language model of one that also sees or hears, with its head."""
    with torch.device("meta"):  # its own weights are never drawn
        text = made(whole.config.get_text_config(decoder=True))
    setattr(text, text.base_model_prefix, whole.get_decoder())
    text.set_output_embeddings(whole.get_output_embeddings())
    text.generation_config = whole.generation_config
    if any(weight.is_meta for weight in text.parameters()):
        raise InputError(f"{whole.config.name_or_path}: the text model of {type(whole).__name__} cannot be taken out.")
    return text.eval()
