"""What is measured of a signal beforehand, against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import models
import pytest
import tiny
import torch

from attention_distillation.analysis import indicators
from attention_distillation.metrics import has_answer
from attention_distillation.settings import Distillation
from attention_distillation.training import measuring, signals

CHOICES = Distillation(tau_gold=0.5, tau_unit="spread", layers=1)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    torch.set_num_threads(1)
    material = tiny.material(tmp_path_factory.mktemp("material"))
    reader = models.reader("llama_grouped", passage=80, answer=6).eval()
    return indicators.shown_batches(reader, material, CHOICES, 12, 3, seed=4)


def test_questions_are_shown_with_the_passages_that_were_found(batches):
    assert [len(shown.rows) for shown in batches] == [3, 3, 3, 3]
    assert len({int(row) for shown in batches for row in shown.rows}) == 12
    for shown in batches:
        for texts, question, line in zip(shown.texts, shown.questions, shown.bears, strict=True):
            assert line.tolist() == [has_answer(text, question.answers) for _, text in texts]


@pytest.mark.parametrize("signal", ["attention", "attention_layers", "perplexity", "answer_match", "uniform"])
def test_indicators_are_counts_over_the_half_that_measured_nothing(batches, signal):
    found = indicators.indicators(signal, batches)
    measured = measuring.measure(signal, batches[:2])
    rows = {"picks": [], "chance": [], "mass": [], "entropy": [], "noise": [], "nothing_found": []}
    for shown in (replace(batch, measured=measured) for batch in batches[2:]):
        scores, target = signals.SIGNALS[signal](shown), signals.target(signal, shown)
        for row in range(3):
            bears, p, k = shown.bears[row].tolist(), target[row].tolist(), 3
            entropy = -sum(value * math.log(value) for value in p if value > 0) / math.log(k)
            rows["entropy"].append(entropy)
            rows["nothing_found"].append(float(not any(bears)))
            if not any(bears):
                rows["noise"].append(1 - entropy)
            if any(bears) and not all(bears):
                best = max(range(k), key=lambda i: scores[row, i].item())
                level = len(set(scores[row].tolist())) == 1
                rows["picks"].append(sum(bears) / k if level else float(bears[best]))
                rows["chance"].append(sum(bears) / k)
                rows["mass"].append(sum(value for value, held in zip(p, bears, strict=True) if held))
    assert rows["picks"] and rows["noise"]
    assert found.pop("questions") == 6
    for name, values in rows.items():
        expected = sum(values) / len(values) if values else math.nan
        assert found[name] == pytest.approx(expected, abs=1e-5, nan_ok=True), name


def test_answer_match_picks_every_answer_and_uniform_picks_as_chance_does(batches):
    match = indicators.indicators("answer_match", batches)
    uniform = indicators.indicators("uniform", batches)
    assert match["picks"] == match["mass"] == 1.0
    assert uniform["picks"] == pytest.approx(uniform["chance"]) and uniform["entropy"] == pytest.approx(1.0)
    assert uniform["noise"] == pytest.approx(0.0, abs=1e-6)
