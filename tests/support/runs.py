"""Runs of a few steps on ``tiny``'s world, and how two of them are compared."""

from __future__ import annotations

import models
import tiny
import torch

from attention_distillation.settings import Distillation, Training
from attention_distillation.training.loop import Trainer

BOTH = ("reader", "retriever")
IDENTITY = {"settings": "abc", "code": "one"}
TIMES = ("seconds", "questions_per_second")


def trainer(
    material, folder, trained=BOTH, signal="attention", kind="falcon_alibi", seed=0, identity=IDENTITY, **numbers
) -> Trainer:
    """A run of 6 steps, refreshed every 2; ``numbers`` are of ``Training``, or of :class:`Trainer`."""
    given = {"distillation": Distillation(tau_gold=0.3), "gold": None, "dtype": torch.float32, "save_seconds": 600,
             "adapter": None}  # fmt: skip
    given = {key: numbers.pop(key, value) for key, value in given.items()}
    dropout = numbers.pop("dropout", 0.0)
    chosen = {"learning_rate": 2e-3, "steps": 6, "batch_size": 4, "refresh_every": 2, **numbers}
    chosen = {"warmup_steps": min(2, chosen["steps"] - 1), **chosen}
    return Trainer(
        models.reader(kind, passage=80, answer=6), tiny.bert(dropout=dropout), trained=trained, signal=signal,
        material=material, training=Training(**chosen), retrieval=tiny.RETRIEVAL, seed=seed, folder=folder,
        identity=identity, progress=False, **given,
    )  # fmt: skip


def weights(made: Trainer) -> dict[str, dict[str, torch.Tensor]]:
    """What the models compute with."""
    return {name: {key: value.clone() for key, value in getattr(made, name).state_dict().items()} for name in BOTH}


def masters(made: Trainer) -> dict[str, torch.Tensor]:
    """What is trained, in float32."""
    taken = {}
    for name, module in made.modules.items():
        with made.optimiser.exact(name):
            taken |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    return taken


def equal(one: dict, other: dict) -> bool:
    """The same tensors under the same names, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def untimed(log: list[dict]) -> list[dict]:
    """Log rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in log]


def stop_at(monkeypatch, stop: int) -> None:
    """Let runs be killed before they take the step after ``stop`` steps."""
    step = Trainer.step

    def stopped(self, rows, number, parts):
        if number == stop:
            raise KeyboardInterrupt
        return step(self, rows, number, parts)

    monkeypatch.setattr(Trainer, "step", stopped)
