"""What training, evaluation and analysis know of a reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...files import InputError
from ..plain_text import plain_text
from ..weights import load_model, require_weights

TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")

Passages = Sequence[tuple[str, str]]
"""(title, text) of the k passages of one question, in the order of the prompt."""


@dataclass(frozen=True)
class Encoded:
    """A batch of B questions as a reader takes it; T context tokens, k passages, A answer tokens.

    Attributes:
        ids: int64, decoder-only (B, T), fusion-in-decoder (B, k, L) with T = k·L.
        mask: of the same shape, 1 where ``ids`` is no padding.
        passage: int64 (B, T), which passage a token is its own title or text of; -1 for all else.
        segment: int64 (B, T), ``prompt.TITLE``, ``prompt.TEXT`` or ``prompt.TEMPLATE``.
        labels: int64 (B, A), the answer's tokens with their end, -100 where there is none.
    """

    ids: Tensor
    mask: Tensor
    passage: Tensor
    segment: Tensor
    labels: Tensor

    def to(self, device) -> Encoded:
        """The same batch on another device, copied while the device works on."""
        return Encoded(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    def pinned(self) -> Encoded:
        """The same batch in page-locked memory, from where a copy to a GPU keeps nobody waiting."""
        return Encoded(**{name: value.pin_memory() for name, value in vars(self).items()})


@dataclass(frozen=True)
class Output:
    """What one forward gives.

    Attributes:
        answer_loss: (B,), mean cross-entropy of a question's answer tokens, its end included.
        token_attention: a_t of eq. 1, float32 (B, T), or None where it was not asked for.
    """

    answer_loss: Tensor
    token_attention: Tensor | None


class Reader(ABC, torch.nn.Module):
    """A language model that answers a question from passages.

    Args:
        model: the transformers model, on SDPA.
        tokenizer: its fast tokenizer.
        passage_max_tokens: limit of one passage's prompt.
        answer_max_tokens: limit of the answer, its end included.
    """

    def __init__(self, model, tokenizer, *, passage_max_tokens: int, answer_max_tokens: int) -> None:
        from transformers import GenerationConfig

        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        model.generation_config = GenerationConfig(  # beams or penalties that a checkpoint brings are not greedy
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
        )
        head = model.get_output_embeddings()
        head.forward = partial(_exact_linear, head)
        self.passage_max_tokens, self.answer_max_tokens = passage_max_tokens, answer_max_tokens

    @classmethod
    def load(cls, folder: str | Path, *, passage_max_tokens: int, answer_max_tokens: int) -> Reader:
        """Load from a checkpoint directory: safetensors only, no remote code, SDPA attention, float32.

        Raises:
            InputError: the directory holds no weights, not all of the model's, or no fast tokenizer.
        """
        from transformers import AutoTokenizer

        require_weights(folder)
        if not any((Path(folder) / name).exists() for name in TOKENIZER_FILES):  # transformers may make up an empty one
            raise InputError(f"{folder}: no tokenizer ({', '.join(TOKENIZER_FILES)}); save it beside the weights.")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if not tokenizer.is_fast:
            raise InputError(f"{folder}: no fast tokenizer (tokenizer.json); segment maps need its offsets.")
        model = load_model(cls.model_class(), folder)
        return cls(model, tokenizer, passage_max_tokens=passage_max_tokens, answer_max_tokens=answer_max_tokens)

    @staticmethod
    @abstractmethod
    def model_class():
        """The transformers class that loads a checkpoint of this kind."""

    @abstractmethod
    def encode(
        self, questions: Sequence[str], passages: Sequence[Passages], answers: Sequence[str] | None = None
    ) -> Encoded:
        """Tokens of a batch on the CPU; without ``answers`` ready for :meth:`generate`."""

    @abstractmethod
    def forward(self, encoded: Encoded, *, record: bool = False, value_norm: bool = True, check: bool = True) -> Output:
        """Answer loss and, with ``record``, the attention that the answer pays to each token (no gradient)."""

    @abstractmethod
    def generate(self, encoded: Encoded) -> list[str]:
        """Greedy answers, cut at their end or the first newline."""

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), config and tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def restore(self, folder: str | Path) -> None:
        """Take the weights that :meth:`save` wrote."""
        self.model.load_state_dict(load_model(type(self.model), folder).state_dict())

    @property
    def device(self):
        """Where the weights are."""
        return self.model.device

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self.tokenizer.eos_token_id

    @property
    def mask_id(self) -> int:
        """The token that stands in for one left out (occlusion): mask, else unknown, else the end."""
        for token in (self.tokenizer.mask_token_id, self.tokenizer.unk_token_id):
            if token is not None:
                return token
        return self.end_id

    def _answer_rows(self, answers: Sequence[str] | None, batch: int, prefix: str = "") -> list[list[int]]:
        """Token rows of the answers, cut to the limit, each with its end."""
        if answers is None:
            return [[] for _ in range(batch)]
        words = [prefix + answer for answer in answers]
        rows = plain_text(self.tokenizer)(words, add_special_tokens=False)["input_ids"]
        return [row[: self.answer_max_tokens - 1] + [self.end_id] for row in rows]

    def _texts(self, generated: Tensor) -> list[str]:
        texts = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
        return [text.strip().split("\n", 1)[0].strip() for text in texts]


def _exact_linear(head: torch.nn.Linear, states: Tensor) -> Tensor:
    """Logits in float32, whatever the weights are in.

    In bfloat16 logits of 8 to 32 lie 0.06 to 0.12 apart, and the perplexity signal divides their differences by 0.01.
    """
    bias = None if head.bias is None else head.bias.float()
    return torch.nn.functional.linear(states.float(), head.weight.float(), bias)


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each question's answer tokens, float32 (B,).

    Args:
        logits: (B, A, V), the prediction of each label.
        labels: int64 (B, A), -100 where there is none.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
    )
    return losses.sum(1) / (labels != -100).sum(1).clamp(min=1)


def pad_left(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """int64 (rows, longest), filled from the left."""
    longest = max(map(len, rows))
    return torch.tensor([[value] * (longest - len(row)) + list(row) for row in rows])


def pad_right(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """int64 (rows, longest), filled from the right."""
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])
