"""Adam over float32 masters: the same steps as plain Adam's, whatever the model's weights are rounded to."""

from __future__ import annotations

import copy

import models
import pytest
import torch

from attention_distillation.models.weights import cast
from attention_distillation.training.optimiser import Adam

BATCH = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3))


def gradients(made: torch.nn.Module, seed: int) -> list[torch.Tensor]:
    """Made-up gradients that bfloat16 holds exactly."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(weight.shape, generator=draw).bfloat16().float() for weight in made.parameters()]


def give(made: torch.nn.Module, given: list[torch.Tensor]) -> None:
    for weight, gradient in zip(made.parameters(), given, strict=True):
        weight.grad = gradient.to(weight.dtype)


def test_in_float32_it_is_torch_s_adam():
    one, two = module(), module()
    mine, theirs = Adam(one, 1e-2), torch.optim.Adam(two.parameters(), lr=1e-2)
    for _ in range(5):
        for made, optimizer in ((one, mine), (two, theirs)):
            optimizer.zero_grad()
            made(BATCH).square().mean().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_masters_take_plain_adam_s_steps_and_the_module_their_rounding(monkeypatch, chunk):
    monkeypatch.setattr("attention_distillation.training.optimiser.CHUNK_TENSORS", chunk)
    low, plain = module(), module()
    mine, theirs = Adam(low, 1e-3, dtype=torch.bfloat16), torch.optim.Adam(plain.parameters(), lr=1e-3)
    for step in range(20):
        given = gradients(plain, step)
        give(low, given)
        give(plain, given)
        mine.step()
        theirs.step()
    assert all(weight.dtype == torch.bfloat16 and weight.grad is None for weight in low.parameters())
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(low.parameters(), plain.parameters(), strict=True))
    with mine.exact():
        assert all(torch.equal(a, b) for a, b in zip(low.parameters(), plain.parameters(), strict=True))


def test_steps_too_small_for_bfloat16_add_up():
    """Step2's rate, 5e-7, is a thousandth of the distance between bfloat16 numbers near 0.1."""
    made = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(made.weight, 0.1)
    optimizer = Adam(made, 5e-7, dtype=torch.bfloat16)
    start = made.weight.item()
    for _ in range(2000):
        give(made, [torch.ones(1, 1)])
        optimizer.step()
    assert made.weight.item() < start
    with optimizer.exact():
        assert made.weight.item() == pytest.approx(0.1 - 2000 * 5e-7, rel=1e-4)


def test_parts_are_summed_in_float32():
    """256 and 1 make 256 in bfloat16."""
    low, plain = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    low.load_state_dict(plain.state_dict())
    mine, theirs = Adam(low, 0.1, dtype=torch.bfloat16), torch.optim.Adam(plain.parameters(), lr=0.1)
    for parts in ([256.0, 1.0, 1.0], [-256.0, 0.5, 0.0]):
        mine.zero_grad()
        for part in parts:
            give(low, [torch.full((1, 1), part)])
            mine.gather()
        give(plain, [torch.full((1, 1), sum(parts))])
        mine.step()
        theirs.step()
    with mine.exact():
        assert torch.equal(low.weight, plain.weight)


def test_what_was_gathered_is_forgotten_with_the_gradients():
    low = module()
    optimizer = Adam(low, 0.1, dtype=torch.bfloat16)
    before = copy.deepcopy(low.state_dict())
    give(low, gradients(low, 0))
    optimizer.gather()
    optimizer.zero_grad()
    optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in low.state_dict().items())


def test_gradients_are_reduced_once_each_in_float32():
    for dtype in (torch.float32, torch.bfloat16):
        seen, made = [], module()
        optimizer = Adam(made, 0.1, dtype=dtype, reduce=seen.extend)
        give(made, gradients(made, 0))
        optimizer.step()
        assert [tensor.dtype for tensor in seen] == [torch.float32] * 4
        assert all(torch.equal(a, b) for a, b in zip(seen, gradients(made, 0), strict=True))


def test_what_is_written_into_the_exact_weights_is_taken_up():
    low, other = module(), module()
    optimizer = Adam(low, 0.1, dtype=torch.bfloat16)
    with torch.no_grad():
        other[0].weight.add_(1)
    with optimizer.exact():
        low.load_state_dict(other.state_dict())
    assert torch.equal(low[0].weight, other[0].weight.bfloat16())
    with optimizer.exact():
        assert torch.equal(low[0].weight, other[0].weight)


@pytest.mark.parametrize("kind", ["falcon_alibi", "falcon_grouped", "t5"])
def test_tied_weights_stay_tied_and_buffers_stay_as_they_are(kind):
    made = models.reader(kind).model
    tied, buffers = (
        made.get_output_embeddings().weight is made.get_input_embeddings().weight,
        dict(made.named_buffers()),
    )
    optimizer = Adam(made, 0.1, dtype=torch.bfloat16)
    assert made.dtype == torch.bfloat16
    assert (made.get_output_embeddings().weight is made.get_input_embeddings().weight) == tied
    assert all(torch.equal(buffers[name], value) for name, value in made.named_buffers())
    with optimizer.exact():
        assert made.dtype == torch.float32
    assert cast(models.reader(kind).model, torch.bfloat16).dtype == torch.bfloat16
