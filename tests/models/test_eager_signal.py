"""The benchmark's target is what the library returns: attention with the ALiBi bias twice."""

from __future__ import annotations

from types import SimpleNamespace

import models
import naive
import torch

import eager_signal
from attention_distillation.training.signals import distribution


@torch.no_grad()
def test_the_library_s_target_has_the_bias_twice():
    reader = models.reader("falcon_alibi", implementation="eager")
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    found = distribution(eager_signal.library_signal(reader)(SimpleNamespace(encoded=encoded, k=3)), 0.3)
    for number, mask in enumerate(encoded.mask.bool()):
        ids, labels = encoded.ids[number][mask], encoded.labels[number]
        rows = list(range(len(ids) - 1 - int((labels != -100).sum()), len(ids) - 1))
        passage = encoded.passage[number][mask]
        targets = {}
        for times in (1, 2):
            attention = naive.token_attention(
                naive.falcon(reader.model, ids, times_alibi=times)[1], rows, value_norm=False
            )
            sums = torch.stack([attention[passage == place].sum() for place in range(3)])
            targets[times] = distribution(sums, 0.3)
        torch.testing.assert_close(found[number], targets[2], rtol=1e-4, atol=1e-5)
        assert (targets[1] - targets[2]).abs().max() > 1e-3
