"""AdamW over float32 masters: torch's own steps, whatever the weights are rounded to, and one norm over all of them."""

from __future__ import annotations

import copy
import weakref

import models
import pytest
import torch

from attention_distillation.models.weights import cast
from attention_distillation.training import optimiser as module_under_test
from attention_distillation.training.optimiser import Optimiser
from attention_distillation.training.replicas import Replicas

BATCH = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
BFLOAT16 = torch.bfloat16


def module(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3))


def one_weight(value: float) -> torch.nn.Module:
    made = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(made.weight, value)
    return made


def gradients(made: torch.nn.Module, seed: int) -> list[torch.Tensor]:
    """Made-up gradients that bfloat16 holds exactly."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(weight.shape, generator=draw).bfloat16().float() for weight in made.parameters()]


def give(made: torch.nn.Module, given: list[torch.Tensor]) -> None:
    for weight, gradient in zip(made.parameters(), given, strict=True):
        weight.grad = gradient.to(weight.dtype, copy=True)


def exact(optimiser: Optimiser, made: torch.nn.Module, part: str = "reader") -> list[torch.Tensor]:
    with optimiser.exact(part):
        return [weight.detach().clone() for weight in made.parameters()]


class Twice(Replicas):
    """Two replicas that had the same gradient; keeps what was added up."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        object.__setattr__(self, "added", [])

    def add(self, tensors) -> None:
        for tensor in tensors:
            tensor.mul_(2)
            self.added.append(tensor.clone())


# ------------------------------------------------------------------ torch's steps


def test_with_everything_off_it_is_torch_s_adam_bit_for_bit():
    one, two = module(), module()
    mine, theirs = Optimiser({"reader": one}), torch.optim.Adam(two.parameters(), lr=1e-2)
    for _ in range(5):
        for made, optimiser in ((one, mine), (two, theirs)):
            optimiser.zero_grad()
            made(BATCH).square().mean().backward()
        mine.step({"reader": 1e-2})
        theirs.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
@pytest.mark.parametrize("block", [1, 200, 10**6])
@pytest.mark.parametrize("clip", [None, 0.7])
def test_two_parts_are_stepped_as_torch_steps_both_at_once(monkeypatch, dtype, block, clip):
    """clip_grad_norm_ over all weights, then AdamW with a rate for each part."""
    monkeypatch.setattr(module_under_test, "BLOCK_WEIGHTS", block)
    mine, plain = ([module(0), module(1)] for _ in range(2))
    rates, options = {"reader": 1e-2, "retriever": 1e-3}, {"weight_decay": 0.1}
    optimiser = Optimiser(dict(zip(rates, mine, strict=True)), dtype=dtype, epsilon=1e-6, clip_norm=clip, **options)
    groups = [{"params": list(made.parameters()), "lr": rates[part]} for part, made in zip(rates, plain, strict=True)]
    theirs = torch.optim.AdamW(groups, eps=1e-6, **options)
    for step in range(10):
        for pair in zip(mine, plain, strict=True):
            given = gradients(pair[1], step)
            for made in pair:
                give(made, given)
        if clip:
            norm = torch.nn.utils.clip_grad_norm_([weight for group in groups for weight in group["params"]], clip)
            assert norm > 2 * clip
        theirs.step()
        optimiser.step(rates)
    for part, low, true in zip(rates, mine, plain, strict=True):
        assert all(weight.dtype == dtype for weight in low.parameters())
        for a, b in zip(exact(optimiser, low, part), true.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-9) if clip else torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
def test_a_norm_below_the_limit_changes_nothing(dtype):
    ends = []
    for clip in (None, 1e6):
        made = module()
        optimiser = Optimiser({"reader": made}, dtype=dtype, clip_norm=clip)
        for step in range(3):
            give(made, gradients(made, step))
            optimiser.step({"reader": 1e-2})
        ends.append(exact(optimiser, made))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_norm_is_of_what_all_replicas_sum_to():
    """Twice a gradient of norm 1 is clipped at 1, though each replica's is not above it."""
    for dtype in (torch.float32, BFLOAT16):
        made, replicas = one_weight(0.0), Twice()
        optimiser = Optimiser({"reader": made}, dtype=dtype, clip_norm=1.0, replicas=replicas)
        give(made, [torch.ones(1, 1)])
        optimiser.step({"reader": 0.0})
        (moment,) = [value for key, value in optimiser.moments("reader").items() if key.endswith(":exp_avg")]
        assert moment.item() == pytest.approx(0.1, rel=1e-5)  # (1 - β1) times the clipped gradient
        assert [tensor.item() for tensor in replicas.added] == [2.0]  # added up once


def test_decay_takes_its_share_of_a_weight():
    made = one_weight(2.0)
    optimiser = Optimiser({"reader": made}, weight_decay=0.1)
    give(made, [torch.zeros(1, 1)])
    optimiser.step({"reader": 0.5})
    assert made.weight.item() == pytest.approx(2.0 * (1 - 0.5 * 0.1))


# ------------------------------------------------------------------ bfloat16


def test_steps_too_small_for_bfloat16_add_up():
    """Step2's rate, 5e-7, is a thousandth of the distance between bfloat16 numbers near 0.1."""
    made = one_weight(0.1)
    optimiser = Optimiser({"reader": made}, dtype=BFLOAT16)
    start = made.weight.item()
    for _ in range(2000):
        give(made, [torch.ones(1, 1)])
        optimiser.step({"reader": 5e-7})
    assert made.weight.item() < start
    assert exact(optimiser, made)[0].item() == pytest.approx(0.1 - 2000 * 5e-7, rel=1e-4)


def test_parts_are_summed_in_float32():
    """256 and 1 make 256 in bfloat16."""
    low, plain = one_weight(0.3), one_weight(0.3)
    mine, theirs = Optimiser({"reader": low}, dtype=BFLOAT16), torch.optim.Adam(plain.parameters(), lr=0.1)
    for parts in ([256.0, 1.0, 1.0], [-256.0, 0.5, 0.0]):
        mine.zero_grad()
        for part in parts:
            give(low, [torch.full((1, 1), part)])
            mine.gather()
        give(plain, [torch.full((1, 1), sum(parts))])
        mine.step({"reader": 0.1})
        theirs.step()
    assert torch.equal(exact(mine, low)[0], plain.weight)


def test_what_was_gathered_is_forgotten_with_the_gradients():
    low = module()
    optimiser = Optimiser({"reader": low}, dtype=BFLOAT16)
    before = copy.deepcopy(low.state_dict())
    give(low, gradients(low, 0))
    optimiser.gather()
    optimiser.zero_grad()
    optimiser.step({"reader": 0.1})
    assert all(torch.equal(before[key], value) for key, value in low.state_dict().items())


@pytest.mark.parametrize(("clip", "replicas", "most"), [(None, 1, 40), (0.1, 1, 40), (None, 2, 40), (0.1, 2, 200)])
def test_float32_gradients_of_one_block_are_held_at_a_time(monkeypatch, clip, replicas, most):
    """But where they are clipped on several replicas: the norm must be known before the first of them is used."""
    monkeypatch.setattr(module_under_test, "BLOCK_WEIGHTS", 40)
    made = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(40)) for _ in range(5))
    optimiser = Optimiser({"reader": made}, dtype=BFLOAT16, clip_norm=clip, replicas=Replicas(0, replicas))
    monkeypatch.setattr(Replicas, "add", lambda *_: None)
    give(made, [torch.ones(40)] * 5)
    held, float32 = [], torch.Tensor.float
    living: list = []

    def counted(tensor):
        copied = float32(tensor)
        living.append(weakref.ref(copied))
        held.append(sum(ref().numel() for ref in living if ref() is not None))
        return copied

    monkeypatch.setattr(torch.Tensor, "float", counted)
    optimiser.step({"reader": 0.1})
    assert held and max(held) <= most
    assert all(weight.grad is None for weight in made)


def test_gradients_are_added_up_once_each_in_float32():
    for dtype in (torch.float32, BFLOAT16):
        made, replicas = module(), Twice()
        optimiser = Optimiser({"reader": made}, dtype=dtype, replicas=replicas)
        give(made, gradients(made, 0))
        optimiser.step({"reader": 0.1})
        assert [tensor.dtype for tensor in replicas.added] == [torch.float32] * 4
        assert all(torch.equal(a, 2 * b) for a, b in zip(replicas.added, gradients(made, 0), strict=True))


# ------------------------------------------------------------------ what is saved


def test_what_is_written_into_the_exact_weights_is_taken_up():
    low, other = module(), module()
    optimiser = Optimiser({"reader": low}, dtype=BFLOAT16)
    with torch.no_grad():
        other[0].weight.add_(1)
    with optimiser.exact("reader"):
        low.load_state_dict(other.state_dict())
    assert torch.equal(low[0].weight, other[0].weight.bfloat16())
    assert torch.equal(exact(optimiser, low)[0], other[0].weight)


@pytest.mark.parametrize("blocks", [(1, 10**6), (10**6, 200)])
def test_moments_come_back_whatever_the_blocks(monkeypatch, blocks):
    made, kept = [], None
    for block in blocks:
        monkeypatch.setattr(module_under_test, "BLOCK_WEIGHTS", block)
        made.append((module(), module()))
        optimiser = Optimiser(dict(zip(("reader", "retriever"), made[-1], strict=True)), dtype=BFLOAT16)
        if kept is None:
            for step in range(3):
                for one in made[-1]:
                    give(one, gradients(one, step))
                optimiser.step({"reader": 0.1, "retriever": 0.01})
            kept = {part: optimiser.moments(part) for part in ("reader", "retriever")}
        else:
            for part, moments in kept.items():
                optimiser.load_moments(part, moments)
    again = {part: optimiser.moments(part) for part in kept}
    assert {key.rsplit(":", 1)[1] for key in kept["reader"]} == {"step", "exp_avg", "exp_avg_sq"}
    for part, moments in kept.items():
        assert moments.keys() == again[part].keys() and len(moments) == 12
        assert all(torch.equal(value, again[part][key]) for key, value in moments.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_seen(value):
    made = module()
    optimiser = Optimiser({"reader": made}, dtype=BFLOAT16)
    assert optimiser.finite()
    with torch.no_grad(), optimiser.exact("reader"):
        made[2].bias[1] = value
    assert not optimiser.finite()


@pytest.mark.parametrize("kind", ["falcon_alibi", "falcon_grouped", "t5"])
def test_tied_weights_stay_tied_and_buffers_stay_as_they_are(kind):
    made = models.reader(kind).model
    tied, buffers = (
        made.get_output_embeddings().weight is made.get_input_embeddings().weight,
        dict(made.named_buffers()),
    )
    optimiser = Optimiser({"reader": made}, dtype=BFLOAT16)
    assert made.dtype == BFLOAT16
    assert (made.get_output_embeddings().weight is made.get_input_embeddings().weight) == tied
    assert all(torch.equal(buffers[name], value) for name, value in made.named_buffers())
    with optimiser.exact("reader"):
        assert made.dtype == torch.float32
    assert cast(models.reader(kind).model, BFLOAT16).dtype == BFLOAT16
