"""A model's directory: config and safetensors, and every weight of the model among them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..files import InputError
from ..jobs import runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model",
                   "sentencepiece.bpe.model")  # fmt: skip


def require_weights(folder: str | Path) -> None:
    """Raise an :class:`InputError` that names what a model directory lacks."""
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: no config.json; name a directory that save_pretrained wrote, or a hub id.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors weights; convert the checkpoint (pickled weights are not read).")


def require_tokenizer(folder: str | Path) -> None:
    """Raise an :class:`InputError` where a model's directory has no tokenizer: the library would make one up."""
    if not any((Path(folder) / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{folder}: no tokenizer ({', '.join(TOKENIZER_FILES)}); copy its files there.")


def load_model(model_class, folder: str | Path, **options):
    """A transformers model in float32 on SDPA attention: safetensors only, no remote code, nothing left to chance.

    What a checkpoint lacks transformers draws at random, with no more than a warning.

    Args:
        options: of ``from_pretrained``, where they are others.

    Raises:
        InputError: there are no weights, or not all of the model's.
    """
    import torch

    require_weights(folder)
    model, report = model_class.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True,
        **{"attn_implementation": "sdpa", "dtype": torch.float32, **options},
    )  # fmt: skip
    _require_whole(folder, model, report["missing_keys"])
    return model


def _require_whole(folder: str | Path, model, missing_keys) -> None:
    if missing := sorted(missing_keys):
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise InputError(
            f"{folder}: the weights lack '{missing[0]}'{more} of {type(model).__name__}; give a checkpoint of that "
            "model, whole."
        )


def require_whole(model_class, folder: str | Path, **options) -> None:
    """The check of :func:`load_model` alone: no weight is read.

    Raises:
        InputError: there are not all of the model's weights.
    """
    model, report = model_class.from_pretrained(
        folder, use_safetensors=True, device_map="meta", output_loading_info=True, local_files_only=True, **options
    )
    _require_whole(folder, model, report["missing_keys"])


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with its weights in ``dtype``; buffers (rotary frequencies, say) stay as they are."""
    for weight in module.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    return module


def placed(model, precision: str):
    """A model that nothing trains, on the job's device and in its :func:`jobs.runtime.dtype`."""
    return cast(model.to(runtime.device()), runtime.dtype(precision)).eval()
