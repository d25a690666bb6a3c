"""GGUF files as a directory of safetensors, once: the same weights, dequantised, for every job that loads the reader.

transformers reads and dequantises them, and passes over what it does not know. Two such things are looked for here and
refused: a way to split text into words that it would replace by GPT-2's (other tokens), and weights that it leaves
unread (the rotary scaling of Llama 3.1 is one).

Weights are written in float32. A quantised weight is scale × integer + minimum with both in float16, which no 16-bit
type holds; a file in float16 or bfloat16 has its norms in float32; and readers are loaded in float32 anyhow. The price
is disk: four bytes a weight.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..files import InputError
from ..jobs.room import check_disk

GPT2_SPLITS = ("gpt-2", "phi-2", "mpt", "olmo", "jais")
DIGIT_SPLITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")
"""Values of ``tokenizer.ggml.pre`` [llama.cpp]: words as GPT-2 splits them, and the same with each digit by itself."""
INSTEAD = "give the model's own directory or hub id instead"


def convert(file: str | Path, folder: str | Path) -> None:
    """Write a GGUF file's model into ``folder``: safetensors, config, generation config, tokenizer, chat template.

    Args:
        file: a language model with its tokenizer, whole in one file.
        folder: is made anew.

    Raises:
        InputError: the file is broken, transformers reads it in part or not at all, or the disk is too small.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    file, folder = Path(file), Path(folder)
    weights, split = _header(file)
    check_disk(folder, 4 * weights)
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read, report = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{file}: transformers cannot read it ({reason}); {INSTEAD}.") from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"{file}: lacks {len(missing)} weights ('{missing[0]}' is one); if it is split, join it first."
        )
    if (taken := read.num_parameters()) != weights:
        raise InputError(
            f"{file}: has {weights:,} weights, of which transformers' {type(read).__name__} takes {taken:,}; {INSTEAD}."
        )
    _set_split(tokenizer, split, file)
    read.config.name_or_path = ""
    end = tokenizer.eos_token_id
    read.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    shutil.rmtree(folder, ignore_errors=True)
    read.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _header(file: Path) -> tuple[int, str | None]:
    """How many weights a file has, and how its tokenizer splits text into words (None: not by a byte-level BPE)."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise InputError("package 'gguf' is not here; install envs/requirements-models.txt.") from None
    try:
        header = GGUFReader(file)
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise InputError(f"{file}: no whole GGUF file ({error}); fetch it again.") from None

    def field(name: str):
        report = header.get_field(name)
        return report.contents() if report else None

    if int(field("split.count") or 1) > 1:
        raise InputError(
            f"{file}: one of {field('split.count')} parts of a model; join them (llama-gguf-split --merge)."
        )
    if field("tokenizer.ggml.model") is None:
        raise InputError(f"{file}: has no tokenizer; {INSTEAD}.")
    weights = sum(int(tensor.n_elements) for tensor in header.tensors)
    return weights, (field("tokenizer.ggml.pre") or "default") if field("tokenizer.ggml.model") == "gpt2" else None


def _set_split(tokenizer, split: str | None, file: Path) -> None:
    """Let a byte-level BPE split text into words as the file says, where transformers would do as GPT-2 does."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if split in DIGIT_SPLITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif split not in (None, *GPT2_SPLITS, *GGUF_PRE_TOKENIZER_SPLITS):
        raise InputError(
            f"{file}: its tokenizer splits text in a way ('{split}') that transformers does not know; {INSTEAD}."
        )
