"""What the retriever learns from: reader outputs to a distribution over the k passages.

A signal is a function ``(reader, encoded, output, distillation) -> P (B, k)`` and a word in :data:`SIGNALS`.
No target ever carries a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..models.readers import Encoded, Output, Reader
from ..settings import Distillation


def passage_scores(token_attention: Tensor, passage: Tensor, k: int) -> Tensor:
    """S_i = Σ a_t over the tokens of passage i, (B, k); tokens of no passage (-1) do not count.

    Args:
        token_attention: a_t, (B, T).
        passage: int64 (B, T), the passage that a token belongs to, or -1.
    """
    sums = token_attention.new_zeros(len(passage), k + 1)
    return sums.scatter_add_(1, torch.where(passage < 0, k, passage), token_attention)[:, :k]


def distribution(scores: Tensor, tau: float) -> Tensor:
    """softmax_i(S_i / τ_gold) (eq. 1), float32 (B, k), cut off from the graph."""
    return (scores.detach().float() / tau).softmax(-1)


def attention_signal(_reader: Reader, encoded: Encoded, output: Output, distillation: Distillation, k: int) -> Tensor:
    """P_ATTN (eq. 1) of the forward that was recorded."""
    return distribution(passage_scores(output.token_attention, encoded.passage, k), distillation.tau_gold)


@torch.no_grad()
def perplexity_signal(reader: Reader, encoded: Encoded, _output: Output, distillation: Distillation, k: int) -> Tensor:
    """PDist: softmax_i of the mean log-likelihood per answer token, given Q and n_i alone, over τ_gold [Atlas].

    Of a decoder-only reader this is REPLUG's LSR.

    As in Atlas, dropout is off in this forward: divided by a small τ_gold, its noise would decide the target.
    """
    training = reader.model.training
    reader.model.eval()
    likelihood = -reader(reader.alone(encoded)[0]).answer_loss.view(-1, k)
    reader.model.train(training)
    return distribution(likelihood, distillation.tau_gold)


SIGNALS: dict[str, Callable[[Reader, Encoded, Output, Distillation, int], Tensor]] = {
    "attention": attention_signal,
    "perplexity": perplexity_signal,
}


def retriever_log_distribution(questions: Tensor, passages: Tensor, temperature: float) -> Tensor:
    """log P_RETR (eq. 2), float32 (B, k): log softmax_i of n_i · Q / temperature.

    Args:
        questions: (B, d).
        passages: (B, k, d).
        temperature: √d · θ, of cosines θ / 20 (:meth:`retriever.Retriever.temperature`).
    """
    scores = torch.einsum("bd,bkd->bk", questions.float(), passages.float())
    return (scores / temperature).log_softmax(-1)


def kl(target: Tensor, log_distribution: Tensor) -> Tensor:
    """KL(P_target ‖ P_RETR), a mean over the batch: true KL, not PyTorch's default that divides by k too."""
    return torch.nn.functional.kl_div(log_distribution, target, reduction="batchmean")


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
