"""What training, evaluation and analysis know of a reader."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...files import InputError
from ...settings import Prompt
from ..plain_text import plain_text
from .adapters import merged
from .loading import load, load_tokenizer
from .prompt import TEMPLATE, running_text

Passages = Sequence[tuple[str, str]]
"""(title, text) of the k passages of one question, in the order of the prompt."""


@dataclass(frozen=True)
class Encoded:
    """A batch of B questions as a reader takes it; T context tokens, k passages, A answer tokens.

    Attributes:
        ids: int64, decoder-only (B, T), fusion-in-decoder (B, k, L) with T = k·L.
        mask: of the same shape, 1 where ``ids`` is no padding.
        prompt: int64 (B, T), which passage's prompt a token stands in; -1 for what all share (start, answer, padding).
        segment: int64 (B, T), ``prompt.TITLE``, ``prompt.TEXT`` or ``prompt.TEMPLATE``.
        labels: int64 (B, A), the answer's tokens with their end, -100 where there is none.
    """

    ids: Tensor
    mask: Tensor
    prompt: Tensor
    segment: Tensor
    labels: Tensor

    @property
    def passage(self) -> Tensor:
        """int64 (B, T), which passage a token is its own title or text of; -1 for all else."""
        return torch.where(self.segment == TEMPLATE, -1, self.prompt)

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
        layer_attention: what each layer that attends adds to a_t, float32 (layers, B, T); None where it was not asked
            for.
    """

    answer_loss: Tensor
    layer_attention: Tensor | None = None

    @property
    def token_attention(self) -> Tensor | None:
        """a_t of eq. 1, the mean over layers, float32 (B, T); layers are added in their order."""
        if self.layer_attention is None:
            return None
        return sum(self.layer_attention, torch.zeros_like(self.layer_attention[0])) / len(self.layer_attention)


class Reader(ABC, torch.nn.Module):
    """A language model that answers a question from passages.

    Args:
        model: the transformers model, as :func:`loading.load` gives it.
        tokenizer: its fast tokenizer.
        prompt: keys of :class:`settings.Prompt`.

    Raises:
        InputError: nothing says which token ends an answer.
    """

    def __init__(self, model, tokenizer, **prompt) -> None:
        from transformers import GenerationConfig

        super().__init__()
        self.model, self.tokenizer, self.prompt = model, tokenizer, Prompt(**prompt)
        self.end_id = _end_of(model, tokenizer)
        self.pad_id = self.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        model.generation_config = GenerationConfig(  # beams or penalties that a checkpoint brings are not greedy
            eos_token_id=self.end_id,
            pad_token_id=self.pad_id,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
        )

    @classmethod
    def load(cls, folder: str | Path, *, bits: int | None = None, **prompt) -> Reader:
        """Load from a checkpoint directory: safetensors only, no remote code, float32.

        Args:
            bits: 8 or 4, of the weights of linear layers; such a reader is not trained. None: all is float32.
            prompt: keys of :class:`settings.Prompt`.

        Raises:
            InputError: the directory holds no weights, not all of the model's, no fast tokenizer, or a model that is
                no reader of this kind.
        """
        tokenizer = load_tokenizer(folder)
        return cls(load(cls.model_class, folder, bits), tokenizer, **prompt)

    @staticmethod
    @abstractmethod
    def model_class(config):
        """The transformers class that a checkpoint's config names.

        Raises:
            InputError: a model of that class is no reader of this kind.
        """

    @abstractmethod
    def encode(
        self, questions: Sequence[str], passages: Sequence[Passages], answers: Sequence[str] | None = None
    ) -> Encoded:
        """Tokens of a batch on the CPU; without ``answers`` ready for :meth:`generate`."""

    @abstractmethod
    def forward(self, encoded: Encoded, *, record: bool = False, value_norm: bool = True, check: bool = True) -> Output:
        """Answer loss and, with ``record``, the attention that the answer pays to each token (no gradient)."""

    @abstractmethod
    def alone(self, encoded: Encoded) -> tuple[Encoded, Tensor]:
        """Each passage of a batch (B, ...) by itself, with the question and the answer, as a batch of B·k.

        Returns:
            that batch of T' tokens a passage, and the place of each of its tokens in the batch it came from, int64
            (B·k, T').
        """

    @property
    @abstractmethod
    def context_embeddings(self) -> torch.nn.Module:
        """The module that makes vectors of the context's tokens."""

    @property
    @abstractmethod
    def recorded_layers(self) -> tuple[int, int]:
        """How many layers' attention is recorded, and how many layers there are."""

    @abstractmethod
    def generate(self, encoded: Encoded) -> list[str]:
        """Greedy answers, cut at their end or the first newline."""

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), config and tokenizer; adapters are added to the weights, in float32."""
        weights = merged(self.model)
        self.model.save_pretrained(folder, state_dict=weights)
        if weights is not None:
            self.model.config.dtype = torch.float32
            self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def device(self):
        """Where the weights are."""
        return self.model.device

    @property
    def mask_id(self) -> int:
        """The token that stands in for one left out (occlusion): mask, else unknown, else the end."""
        for token in (self.tokenizer.mask_token_id, self.tokenizer.unk_token_id):
            if token is not None:
                return token
        return self.end_id

    @property
    def passage_max_tokens(self) -> int:
        """Limit of one passage's prompt."""
        return self.prompt.passage_max_tokens

    @property
    def answer_max_tokens(self) -> int:
        """Limit of the answer, its end included."""
        return self.prompt.answer_max_tokens

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a text as they are in running text, and the letters of it that each stands for."""
        plain, tokens, spans = plain_text(self.tokenizer), [], []
        for before in ("question: ", ""):  # alone where a token reaches over the seam, further than its space
            encoded = plain(before + text, add_special_tokens=False, return_offsets_mapping=True)
            places = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2) - len(before)
            own = np.flatnonzero(places[:, 1] > 0)
            tokens, spans = (
                [encoded["input_ids"][place] for place in own],
                [tuple(places[place].tolist()) for place in own],
            )
            if not spans or spans[0][0] >= -1:
                break
        return tokens, spans

    def _answer_rows(
        self, answers: Sequence[str] | None, batch: int, before: str = "", joint: str = ""
    ) -> list[list[int]]:
        """Token rows of the answers after ``before`` and ``joint``, cut to the limit, each with its end."""
        if answers is None:
            return [[] for _ in range(batch)]
        rows = running_text(self.tokenizer, before, [joint + answer for answer in answers])
        return [row[: self.answer_max_tokens - 1] + [self.end_id] for row in rows]

    def _texts(self, generated: Tensor) -> list[str]:
        texts = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
        return [text.strip().split("\n", 1)[0].strip() for text in texts]


def _end_of(model, tokenizer) -> int:
    """The token that ends an answer: the tokenizer's, else the first that the model's own generation stops at."""
    for end in (
        tokenizer.eos_token_id,
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
    ):
        if end is not None and end != []:
            return end if isinstance(end, int) else end[0]
    raise InputError(
        f"{model.config.name_or_path or type(model).__name__}: neither tokenizer nor model names a token that ends a "
        "text (eos_token): give its tokenizer one."
    )


class _Float32Products(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.linear:
            args = [None if part is None else part.float() for part in args]
            kwargs = {name: None if part is None else part.float() for name, part in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def exact_logits(model) -> Iterator[None]:
    """Inside ``with`` the model's last product is in float32, whatever its weights are in.

    In bfloat16 logits of 8 to 32 lie 0.06 to 0.12 apart, and the perplexity signal divides their differences by 0.01.
    """
    head = model.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        yield
        return
    mode = _Float32Products()
    hooks = [
        head.register_forward_pre_hook(lambda *_: mode.__enter__() and None),
        head.register_forward_hook(lambda *_: mode.__exit__(None, None, None), always_call=True, prepend=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
