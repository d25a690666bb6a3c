"""Batches, epochs, rates, and what is made ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.settings import Training
from attention_distillation.training.schedule import ahead, batches, rate


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 25), st.integers(0, 5))
def test_every_question_comes_once_an_epoch(count, batch, steps, seed):
    found = list(batches(count, batch, steps, seed))
    assert len(found) == steps and all(len(rows) == batch for rows in found)
    drawn = np.concatenate(found)
    for start in range(0, len(drawn) - count + 1, count):
        assert sorted(drawn[start : start + count].tolist()) == list(range(count))
    assert all(a.tolist() == b.tolist() for a, b in zip(found, batches(count, batch, steps, seed), strict=True))


def test_epochs_and_seeds_have_orders_of_their_own():
    one, two = list(batches(50, 50, 2, seed=0))
    (other,) = batches(50, 50, 1, seed=1)
    assert one.tolist() != two.tolist() != other.tolist() != one.tolist()


def training(**numbers) -> Training:
    return Training(**{"learning_rate": 8.0, "steps": 12, "warmup_steps": 4, "refresh_every": 2, **numbers})


def test_linear_warm_up_then_linear_decay():
    assert [rate(training(), "reader", step) for step in range(13)] == [2, 4, 6, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert rate(training(steps=4, warmup_steps=0), "retriever", 0) == 8.0
    assert rate(training(retriever_learning_rate=4.0), "retriever", 3) == 4.0


def test_a_floor_lifts_both_ends_and_leaves_the_highest_rate():
    """Atlas's WarmupLinearScheduler, ratio 0.1, from its second step on: ours takes none at the floor itself."""
    floor = training(rate_floor=0.1)
    rates = [rate(floor, "reader", step) for step in range(13)]
    assert rates[3] == pytest.approx(8.0) and rates[12] == pytest.approx(0.8)
    atlas = [8 * (0.9 * step / 4 + 0.1) for step in range(1, 4)] + [
        8 * (1 - 0.9 * (step - 4) / 8) for step in range(4, 13)
    ]
    assert rates[:3] == pytest.approx(atlas[:3]) and rates[4:] == pytest.approx(atlas[3:])
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)


@given(st.integers(0, 200), st.floats(1e-8, 1.0))
def test_without_a_floor_the_rate_is_the_plain_formula_to_the_bit(step, highest):
    given = training(learning_rate=highest, steps=200, warmup_steps=10)
    plain = highest * (step + 1) / 10 if step < 10 else highest * max(0.0, (200 - step) / 190)
    assert rate(given, "reader", step) == plain


def test_the_next_is_made_meanwhile_and_everything_in_order():
    made, main = [], threading.get_ident()

    def make(item):
        made.append((item, threading.get_ident() == main))
        if item == 3:
            raise ValueError("three")
        return item * item

    taken = ahead(make, iter(range(5)))
    assert next(taken) == (0, 0) and next(taken) == (1, 1)
    assert next(taken) == (2, 4)
    with pytest.raises(ValueError, match="three"):
        next(taken)
    assert [item for item, _ in made][:4] == [0, 1, 2, 3] and not any(in_main for _, in_main in made)
    assert list(ahead(make, [])) == [] and list(ahead(make, [7])) == [(7, 49)]
