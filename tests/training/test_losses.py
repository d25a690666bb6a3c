"""Sums of losses, and the step at which one that is no number is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attention_distillation.files import InputError
from attention_distillation.training.losses import Losses
from attention_distillation.training.replicas import Replicas


def made(names=("reader",)) -> Losses:
    return Losses(names, Replicas(), lambda rows: [f"q{row}" for row in rows])


def give(losses: Losses, step: int, *values: float, **options) -> None:
    given = {name: torch.tensor(value) for name, value in zip(losses.names, values, strict=True)}
    losses.add(step, np.arange(step, step + 3), given, **options)


def test_means_are_of_the_steps_since_they_began():
    losses = made(("reader", "retriever"))
    for step, (one, two) in enumerate([(1.0, 4.0), (2.0, 6.0)], 1):
        give(losses, step, one, two)
    assert losses.means() == {"reader": 1.5, "retriever": 5.0} and losses.since == 2
    losses.begin()
    assert losses.means() == {} and losses.since == 0
    losses.begin({"reader": 3.0, "retriever": 1.0}, 1)
    give(losses, 4, 5.0, 2.0)
    assert losses.means() == {"reader": 4.0, "retriever": 1.5}


def test_sums_are_float32_sums_whether_or_not_they_were_saved_in_between():
    values = np.random.default_rng(0).random(50, dtype=np.float32)
    whole, stopped, total = made(), made(), torch.tensor(0.0)
    for step, value in enumerate(values):
        total = total + torch.tensor(value)
        give(whole, step, value)
        give(stopped, step, value)
        stopped.begin({name: float(kept) for name, kept in stopped.sums.items()}, stopped.since)
    assert whole.means() == stopped.means() == {"reader": float(total) / 50}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stops_at_its_step(value):
    losses = made(("reader", "retriever"))
    give(losses, 1, 1.0, 1.0)
    with pytest.raises(InputError, match=rf"^step 2: the retriever's loss is {value} on questions q2, q3, q4; lower"):
        give(losses, 2, 1.0, value)


def test_on_a_gpu_a_step_is_looked_at_when_the_next_is_under_way(monkeypatch):
    """With tensors that say they are on one, and an event that says when they are read."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    class Event:
        waited = 0

        def record(self) -> None: ...

        def synchronize(self) -> None:
            Event.waited += 1

    monkeypatch.setattr(torch.cuda, "Event", Event)
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: stack(tensors).as_subclass(OnGpu))
    losses = made()
    give(losses, 1, float("nan"))
    assert Event.waited == 0
    with pytest.raises(InputError, match="^step 1: "):
        give(losses, 2, 1.0)
    losses = made()
    give(losses, 1, 1.0)
    give(losses, 2, float("nan"), wish_to_save=True)
    assert losses.since == 1 and not losses.save_wished
    with pytest.raises(InputError, match="^step 2: "):
        losses.settle()


def test_a_wish_to_save_reaches_whoever_adds_up():
    losses = made()
    give(losses, 1, 1.0)
    assert not losses.save_wished
    give(losses, 2, 1.0, wish_to_save=True)
    give(losses, 3, 1.0)
    assert losses.save_wished


def test_a_large_batch_is_named_in_part():
    losses = made()
    with pytest.raises(InputError, match=r"q0, q1, q2, q3, q4, q5, q6, q7 and 12 more; lower"):
        losses.add(1, np.arange(20), {"reader": torch.tensor(float("nan"))})
