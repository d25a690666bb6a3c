"""What the retriever learns from: scores of the k passages shown, made into a target distribution.

A signal is a function ``(shown) -> scores (B, k)`` and a word in :data:`SIGNALS`. :func:`target` divides the scores by
τ_gold and takes the softmax. No target ever carries a gradient. ``docs/method.md`` has each formula and its source.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..metrics import has_answer
from ..models.readers import Encoded, Output, Reader
from ..models.readers.base import Passages
from ..records import Question
from ..settings import Distillation
from .context import rng_of

NO_QUESTION = "N/A"
"""Stands in for the question where nothing is asked [Chen et al. 2024, in-context re-ranking]."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a signal on training questions, before a step rests on it (module ``measuring``).

    Attributes:
        places: mean S_i of each layer at each place of the prompt, (layers, k).
        layers: numbers of the layers chosen, among those that attend.
        spread: standard deviation of a question's k scores, a mean over questions.
    """

    places: list[list[float]] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    spread: float = 1.0


@dataclass(frozen=True)
class Shown:
    """B questions as the reader was shown them, and what a signal may rest on.

    Attributes:
        rows: the questions' numbers in their split, (B,).
        passages: rows of the passages in the corpus, in the prompt's order, (B, k).
        texts: (title, text) of the same.
        answers: what the reader learns to answer.
        output: of the forward, with attention where the signal needs it; None where it needs no reader.
    """

    reader: Reader
    encoded: Encoded
    output: Output | None
    questions: Sequence[Question]
    answers: Sequence[str]
    rows: Sequence[int]
    passages: Sequence[Sequence[int]]
    texts: Sequence[Passages]
    distillation: Distillation
    seed: int = 0
    measured: Measured = Measured()

    @property
    def k(self) -> int:
        """Passages of a question."""
        return len(self.texts[0])

    @property
    def device(self) -> torch.device:
        return self.encoded.ids.device

    @property
    def tau(self) -> float:
        """τ_gold in the signal's own scores, whatever unit it is given in."""
        unit = self.measured.spread if self.distillation.tau_unit == "spread" else 1.0
        return self.distillation.tau_gold * unit

    @cached_property
    def bears(self) -> Tensor:
        """bool (B, k): a passage's text holds an answer, as HR@k counts it."""
        held = [
            [has_answer(text, question.answers) for _, text in given]
            for question, given in zip(self.questions, self.texts, strict=True)
        ]
        return torch.tensor(held, device=self.device).view(len(self.questions), self.k)


# ------------------------------------------------------------------ scores, one function a signal


def passage_scores(token_attention: Tensor, passage: Tensor, k: int) -> Tensor:
    """S_i = Σ a_t over the tokens of passage i, (B, k); tokens of no passage (-1) do not count.

    Args:
        token_attention: a_t, (B, T).
        passage: int64 (B, T), the passage that a token belongs to, or -1.
    """
    sums = token_attention.new_zeros(len(passage), k + 1)
    return sums.scatter_add_(1, torch.where(passage < 0, k, passage), token_attention)[:, :k]


def attention(shown: Shown) -> Tensor:
    """S_i of eq. 1: the paper's, FiD-KD's, Atlas's ADist."""
    return passage_scores(shown.output.token_attention, shown.encoded.passage, shown.k)


def layer_scores(shown: Shown) -> Tensor:
    """S_i of each layer alone, (layers, B, k); their mean is S_i."""
    return torch.stack([passage_scores(one, shown.encoded.passage, shown.k) for one in shown.output.layer_attention])


def attention_centred(shown: Shown) -> Tensor:
    """S_i less the mean S of its place in the prompt, measured on training questions: position tells nothing then."""
    return attention(shown) - torch.tensor(shown.measured.places, device=shown.device).mean(0)


def attention_layers(shown: Shown) -> Tensor:
    """Mean over the layers chosen of S_i less the mean of its place in that layer."""
    places = torch.tensor(shown.measured.places, device=shown.device)[:, None]
    return (layer_scores(shown) - places)[shown.measured.layers].mean(0)


@torch.no_grad()
def attention_calibrated(shown: Shown) -> Tensor:
    """S_i less S_i under a question without content: what draws attention whatever is asked."""
    with dropout_off(shown.reader):
        empty = shown.reader.encode([NO_QUESTION] * len(shown.questions), shown.texts, shown.answers).to(shown.device)
        output = shown.reader(empty, record=True, value_norm=shown.distillation.value_norm, check=False)
    return attention(shown) - passage_scores(output.token_attention, empty.passage, shown.k)


@torch.no_grad()
def perplexity(shown: Shown) -> Tensor:
    """Mean log-likelihood per answer token, given Q and n_i alone: Atlas's PDist, REPLUG's LSR.

    As in Atlas, dropout is off in this forward: divided by a small τ_gold, its noise would decide the target.
    """
    with dropout_off(shown.reader):
        return -shown.reader(shown.reader.alone(shown.encoded)[0]).answer_loss.view(-1, shown.k)


def answer_match(shown: Shown) -> Tensor:
    """The same for every passage that bears an answer, nothing for the rest; alike where none does.

    Distant supervision: what can be had from questions with answers without any reader.
    """
    none = ~shown.bears.any(1, keepdim=True)
    return torch.where(shown.bears | none, 0.0, -math.inf)


def uniform(shown: Shown) -> Tensor:
    """No signal: every passage alike. What is gained by it is no signal's doing."""
    return torch.zeros(shown.bears.shape, device=shown.device)


def random(shown: Shown) -> Tensor:
    """A false signal: a normal number for each question and passage, the same whenever the pair is shown."""
    drawn = [
        [float(rng_of(shown.seed, 5, int(row), int(passage)).standard_normal()) for passage in passages]
        for row, passages in zip(shown.rows, shown.passages, strict=True)
    ]
    return torch.tensor(drawn, device=shown.device)


SIGNALS: dict[str, Callable[[Shown], Tensor]] = {
    "attention": attention,
    "attention_centred": attention_centred,
    "attention_calibrated": attention_calibrated,
    "attention_layers": attention_layers,
    "perplexity": perplexity,
    "answer_match": answer_match,
    "uniform": uniform,
    "random": random,
}
RECORDED = {name for name in SIGNALS if name.startswith("attention")}
"""Signals that rest on the recorded attention of the forward over all passages."""
MEASURED = {"attention_centred", "attention_layers"}
"""Signals that rest on what was measured on training questions (:class:`Measured`)."""


@contextlib.contextmanager
def dropout_off(reader: Reader) -> Iterator[None]:
    """Inside ``with`` a reader has no dropout, whether it learns or not."""
    training = reader.model.training
    reader.model.eval()
    yield
    reader.model.train(training)


# ------------------------------------------------------------------ the target


def distribution(scores: Tensor, tau: float) -> Tensor:
    """softmax_i(S_i / τ_gold) (eq. 1), float32 (B, k), cut off from the graph."""
    return (scores.detach().float() / tau).softmax(-1)


def target(signal: str, shown: Shown) -> Tensor:
    """What the retriever learns from, float32 (B, k): a signal's scores over τ_gold, in its unit."""
    return distribution(SIGNALS[signal](shown), shown.tau)


# ------------------------------------------------------------------ the gate


def _where_one_bears(shown: Shown) -> Tensor:
    return shown.bears.any(1)


@torch.no_grad()
def _where_passages_help(shown: Shown) -> Tensor:
    """The reader's mean log-likelihood of the answer is higher with the passages than without any."""
    with dropout_off(shown.reader):
        closed = shown.reader.encode([q.question for q in shown.questions], [[] for _ in shown.texts], shown.answers)
        return shown.output.answer_loss.detach() < shown.reader(closed.to(shown.device)).answer_loss


GATES: dict[str, Callable[[Shown], Tensor]] = {
    "nothing_found": _where_one_bears,
    "low_gain": _where_passages_help,
}
"""By what ``distillation.skip`` leaves out: the questions of which the retriever learns, bool (B,)."""


def retriever_log_distribution(questions: Tensor, passages: Tensor, temperature: float) -> Tensor:
    """log P_RETR (eq. 2), float32 (B, k): log softmax_i of n_i · Q / temperature.

    Args:
        questions: (B, d).
        passages: (B, k, d).
        temperature: √d · θ, of cosines θ / 20 (:meth:`retriever.Retriever.temperature`).
    """
    scores = torch.einsum("bd,bkd->bk", questions.float(), passages.float())
    return (scores / temperature).log_softmax(-1)


def kl(target: Tensor, log_distribution: Tensor, learnt: Tensor | None = None) -> Tensor:
    """KL(P_target ‖ P_RETR), a mean over the batch: true KL, not PyTorch's default that divides by k too.

    Args:
        learnt: bool (B,), the questions that a gate lets through; the others count as zero.
    """
    if learnt is not None:
        log_distribution, target = log_distribution[learnt], target[learnt]
    batch = len(target) if learnt is None else len(learnt)
    return torch.nn.functional.kl_div(log_distribution, target, reduction="sum") / batch


# ------------------------------------------------------------------ token level


@torch.no_grad()
def occlusion(reader: Reader, encoded: Encoded, tau: float, batch: int | None = None) -> Tensor:
    """Token-level 'perplexity distribution': softmax over a passage's tokens of δ_t / τ, float32 (B, T).

    δ_t is the rise of the answer's mean token loss when token t is replaced by the mask token, the passage read
    alone. Tokens of no passage get zero.

    Args:
        encoded: B questions with k passages each.
        batch: masked copies a forward; by default what fits a CPU's cache, or keeps a GPU busy.
    """
    own, places = reader.alone(encoded)
    passage = own.passage
    batch = batch or (64 if own.ids.device.type == "cpu" else 256)
    base = reader(own).answer_loss
    units, tokens = (passage >= 0).nonzero(as_tuple=True)
    rise = torch.full(passage.shape, -math.inf, device=own.ids.device)
    for part in range(0, len(units), batch):
        unit, token = units[part : part + batch], tokens[part : part + batch]
        ids = own.ids[unit].clone()
        ids.view(len(unit), -1)[torch.arange(len(unit), device=ids.device), token] = reader.mask_id
        copies = Encoded(ids, own.mask[unit], own.prompt[unit], own.segment[unit], own.labels[unit])
        rise[unit, token] = reader(copies).answer_loss - base[unit]
    share = torch.nan_to_num((rise / tau).softmax(-1))  # a unit without tokens has no distribution
    return _back(share, places, encoded)


def _back(values: Tensor, places: Tensor, encoded: Encoded) -> Tensor:
    """Values of tokens read alone, (B·k, T'), at their places in the batch, (B, T); zero for tokens of no passage."""
    whole = values.new_zeros(encoded.segment.shape)
    return whole.scatter_add_(1, places.reshape(len(whole), -1), values.reshape(len(whole), -1))


def input_gradient(reader: Reader, encoded: Encoded, _tau: float) -> Tensor:
    """The alternative reading: ‖∂loss/∂e_t‖·‖e_t‖, normalised over a passage's tokens, float32 (B, T)."""
    own, places = reader.alone(encoded)
    caught: list[Tensor] = []

    def keep(_module, _inputs, vectors: Tensor) -> None:
        vectors.retain_grad()
        caught.append(vectors)

    table = reader.context_embeddings
    with torch.enable_grad():
        hook = table.register_forward_hook(keep)
        try:
            reader(own).answer_loss.sum().backward()
        finally:
            hook.remove()
        reader.zero_grad(set_to_none=True)
    vectors = caught[0]
    size = (vectors.grad.float().norm(dim=-1) * vectors.detach().float().norm(dim=-1)).view(own.passage.shape)
    size = size.masked_fill(own.passage < 0, 0)
    return _back(size / size.sum(-1, keepdim=True).clamp(min=1e-20), places, encoded)


TOKEN_DISTRIBUTIONS: dict[str, Callable[[Reader, Encoded, float], Tensor]] = {
    "occlusion": occlusion,
    "gradient": input_gradient,
}
