"""What some signals must know before a step rests on them, measured on training questions: :func:`measure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from . import signals
from .signals import Measured, Shown


def is_needed(signal: str, tau_unit: str) -> bool:
    """Whether a target rests on anything measured."""
    return signal in signals.MEASURED or tau_unit == "spread"


@torch.no_grad()
def measure(signal: str, batches: Sequence[Shown]) -> Measured:
    """Places, layers and spread of a signal on questions, whose forwards hold attention where the signal needs it.

    Layers are ranked by how often their best passage, each place's mean off, bears an answer. Only questions count of
    which some passages bear one and some do not; where there is none, the first layers are taken.
    """
    measured = Measured()
    if signal in signals.RECORDED:
        scores = torch.cat([signals.layer_scores(shown) for shown in batches], 1)
        places = scores.mean(1)
        wanted = batches[0].distillation.layers
        rates = pick_rates(scores - places[:, None], torch.cat([shown.bears for shown in batches]))
        best = rates.argsort(descending=True, stable=True)[:wanted].sort().values
        measured = Measured(places.tolist(), best.tolist())
    scores = torch.cat([signals.SIGNALS[signal](replace(shown, measured=measured)) for shown in batches]).float()
    spread = scores.std(-1, correction=0)
    spread = float(spread[spread.isfinite()].mean()) if spread.isfinite().any() else 0.0
    return replace(measured, spread=spread or 1.0)  # of no spread (uniform, answer match) any unit gives the same


def pick_rates(scores: Tensor, bears: Tensor) -> Tensor:
    """How often the passage with the largest score bears an answer, where some do and some do not.

    Args:
        scores: (..., B, k).
        bears: bool (B, k).

    Returns:
        (...); zero where no question tells.
    """
    tells = bears.any(1) & ~bears.all(1)
    picked = bears.expand(scores.shape).gather(-1, scores.argmax(-1, keepdim=True))[..., 0]
    return (picked & tells).sum(-1) / tells.sum().clamp(min=1)
