"""The loop: what learns and what does not, the schedule, and a killed run that goes on as if nothing had been."""

from __future__ import annotations

import json
import threading
import weakref
from collections import Counter
from pathlib import Path

import models
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from attention_distillation.files import read_jsonl
from attention_distillation.metrics import hit
from attention_distillation.models.retriever import Retriever
from attention_distillation.records import read_retrieved
from attention_distillation.retrieval import index
from attention_distillation.settings import Distillation, Training
from attention_distillation.training.context import gold_passages
from attention_distillation.training.loop import State, Trainer, ahead, batches

BOTH = ("reader", "retriever")
TIMES = ("seconds", "questions_per_second")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.material(tmp_path_factory.mktemp("material"))


def trainer(
    material, folder, trained=BOTH, signal="attention", kind="falcon_alibi", seed=0, config="abc", **numbers
) -> Trainer:
    distillation = numbers.pop("distillation", Distillation(tau_gold=0.3))
    gold, dropout = numbers.pop("gold", None), numbers.pop("dropout", 0.0)
    dtype = numbers.pop("dtype", torch.float32)
    chosen = {"learning_rate": 2e-3, "steps": 6, "batch_size": 4, "refresh_every": 2, **numbers}
    chosen = {"warmup_steps": min(2, chosen["steps"] - 1), **chosen}
    return Trainer(
        models.reader(kind, passage=80, answer=6), tiny.bert(dropout=dropout), trained=trained, signal=signal,
        material=material, training=Training(**chosen), distillation=distillation, retrieval=tiny.RETRIEVAL,
        seed=seed, folder=folder, config_hash=config, gold=gold, dtype=dtype, progress=False,
    )  # fmt: skip


def weights(made: Trainer) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.clone() for key, value in getattr(made, name).model.state_dict().items()} for name in BOTH
    }


def masters(made: Trainer) -> dict[str, torch.Tensor]:
    """What is trained, in float32."""
    found = {}
    for name, (module, optimizer) in made.parts.items():
        with optimizer.exact():
            found |= {f"{name}.{key}": value.clone() for key, value in module.model.state_dict().items()}
    return found


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def untimed(log: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in log]


# ------------------------------------------------------------------ batches and schedule


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


def test_linear_warm_up_then_linear_decay(material, tmp_path):
    made = trainer(material, tmp_path, learning_rate=8.0, steps=12, warmup_steps=4)
    assert [made._rate(step, "reader") for step in range(13)] == [2, 4, 6, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert trainer(material, tmp_path, learning_rate=8.0, steps=4, warmup_steps=0)._rate(0, "retriever") == 8.0


def test_the_rate_reaches_both_optimisers(material, tmp_path):
    made = trainer(material, tmp_path, steps=10, warmup_steps=5, learning_rate=1e-3)
    made._index = index.ExactIndex(material.shards)
    made.step(np.arange(4), 2)
    rates = [group["lr"] for _, optimizer in made.parts.values() for group in optimizer.param_groups]
    assert rates == [pytest.approx(6e-4)] * 2


def test_the_retriever_may_have_a_rate_of_its_own(material, tmp_path):
    made = trainer(material, tmp_path, steps=10, warmup_steps=5, learning_rate=1e-3, retriever_learning_rate=1e-5)
    made._index = index.ExactIndex(material.shards)
    before = weights(made)
    made.step(np.arange(4), 2)
    rates = {name: group["lr"] for name, (_, made_by) in made.parts.items() for group in made_by.param_groups}
    assert rates == {"reader": pytest.approx(6e-4), "retriever": pytest.approx(6e-6)}
    moved = {
        name: max(float((value - before[name][key]).abs().max()) for key, value in weights(made)[name].items())
        for name in BOTH
    }
    assert moved == {"reader": pytest.approx(6e-4, rel=0.1), "retriever": pytest.approx(6e-6, rel=0.1)}  # Adam's first


# ------------------------------------------------------------------ what is trained


@pytest.mark.parametrize(
    ("trained", "signal", "kind"),
    [
        (["reader"], "none", "falcon_alibi"),
        (["retriever"], "attention", "falcon_alibi"),
        (BOTH, "attention", "falcon_alibi"),
        (BOTH, "attention", "t5"),
        (BOTH, "perplexity", "t5"),
    ],
)
def test_only_what_is_named_changes(material, tmp_path, trained, signal, kind):
    made = trainer(material, tmp_path / "run", trained, signal, kind, steps=3, refresh_every=3, warmup_steps=0)
    before = weights(made)
    log = made.run()
    after = weights(made)
    for name in BOTH:
        assert equal(before[name], after[name]) == (name not in trained), name
        assert (log[-1][f"{name}_loss"] is not None) == (name in trained)
        assert getattr(made, name).training == (name in trained)  # no dropout in what is frozen
    made.save(tmp_path / "checkpoint")
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == sorted(trained)


@pytest.mark.parametrize(("kind", "share"), [("falcon_alibi", 0.7), ("t5", 0.97)])
def test_the_reader_s_loss_falls(material, tmp_path, kind, share):
    made = trainer(material, tmp_path, ["reader"], "none", kind, steps=30, refresh_every=5, learning_rate=5e-3)
    losses = [row["reader_loss"] for row in made.run()[1:]]
    assert losses[-1] < share * losses[0], losses


@pytest.mark.parametrize(("signal", "kind"), [("attention", "falcon_alibi"), ("perplexity", "t5")])
def test_the_retriever_learns_the_signal(material, tmp_path, signal, kind):
    """On passages that stay the same: those that it finds itself move with it."""
    made = trainer(material, tmp_path, ["retriever"], signal, kind, steps=1000, learning_rate=2e-3, warmup_steps=0)
    made.retrieved = lambda split, rows: (None, material.retrieved[split][rows])
    losses = [made.step(np.arange(6), step)["retriever"].item() for step in range(25)]
    assert min(losses) >= 0 and losses[-1] < 0.3 * losses[0], losses


def test_the_signal_s_target_carries_no_gradient_into_the_reader(material, tmp_path):
    """Joint training's reader gradient is the reader loss's own."""
    gradients = []
    for trained, signal in ((BOTH, "attention"), (["reader"], "none")):
        made = trainer(material, tmp_path, trained, signal)
        made._index = index.ExactIndex(material.shards)
        made.step(np.arange(4), 0)
        gradients.append([parameter.grad.clone() for parameter in made.reader.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_a_batch_in_parts_has_the_gradient_of_the_whole(material, tmp_path):
    gradients, totals = [], []
    for accumulate in (1, 2, 3):
        made = trainer(material, tmp_path, accumulate=accumulate)
        made._index = index.ExactIndex(material.shards)
        totals.append(made.step(np.array([7, 1, 4, 2, 9]), 0))
        gradients.append([p.grad.clone() for name in BOTH for p in getattr(made, name).parameters()])
    for other, total in zip(gradients[1:], totals[1:], strict=True):
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(gradients[0], other, strict=True))
        assert {key: value.item() for key, value in total.items()} == pytest.approx(
            {key: value.item() for key, value in totals[0].items()}, rel=1e-4
        )


@pytest.mark.parametrize("order", ["ranked", "shuffled"])
def test_no_split_of_a_batch_changes_the_order_of_passages(material, tmp_path, order):
    rows, shown = np.array([7, 1, 4, 2, 9]), []

    def found(parts) -> dict[int, list[int]]:
        return {int(row): line.tolist() for part in parts for row, line in zip(part.rows, part.found, strict=True)}

    choices = {"distillation": Distillation(passage_order=order)}
    for accumulate, batch in ((1, rows), (2, rows), (5, rows), (1, rows[::-1])):
        made = trainer(material, tmp_path, ["reader"], "none", accumulate=accumulate, **choices)
        shown.append(found(made.prepared(batch, 3)))
    assert shown[0] == shown[1] == shown[2] == shown[3] and sorted(shown[0]) == sorted(rows.tolist())
    ranked = {int(row): material.retrieved["train"][row].tolist() for row in rows}
    again = found(made.prepared(rows, 4))
    assert (shown[0] == ranked) == (again == shown[0]) == (order == "ranked")


# ------------------------------------------------------------------ precision, and what waits for a GPU


def test_a_bfloat16_run_learns_in_float32_what_a_float32_run_learns(material, tmp_path):
    logs, ends = [], []
    for dtype in (torch.float32, torch.bfloat16):
        made = trainer(material, tmp_path / str(dtype), dtype=dtype, learning_rate=5e-4)
        before = masters(made)
        logs.append(made.run())
        ends.append(masters(made))
        assert all(weight.dtype == dtype for name in BOTH for weight in getattr(made, name).parameters())
        assert all(value.dtype == torch.float32 for value in ends[-1].values() if value.is_floating_point())
        made.save(tmp_path / str(dtype) / "checkpoint")
    for one, two in zip(*logs, strict=True):
        for loss in ("reader_loss", "retriever_loss"):
            assert one[loss] is None or two[loss] == pytest.approx(one[loss], rel=0.1), loss
    moves = [torch.cat([(end[key] - before[key]).flatten() for key in end]) for end in ends]
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.7
    saved = Retriever.load(tmp_path / "torch.bfloat16" / "checkpoint" / "retriever").model.state_dict()
    assert all(torch.equal(value, ends[1][f"retriever.{key}"]) for key, value in saved.items())


class Waits(TorchDispatchMode):
    """Names the operations for whose value the host would have to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().split("::")[1].split(".")[0] in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_step_of_a_reader_waits_for_nothing(material, tmp_path):
    made = trainer(material, tmp_path, ["reader"], "none")
    parts = made.prepared(np.arange(4), 0)
    made.on_gpu = True
    made.parts["reader"][1].step = lambda: None  # on a GPU it is one fused kernel; on a CPU it reads its own counter
    with Waits() as waits:
        made.step(np.arange(4), 0, parts)
    assert waits.seen == []
    with Waits() as waits:
        made._check(0, {"reader": torch.ones(())})
    assert waits.seen  # so it would have been seen


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


def test_the_old_index_is_gone_before_the_new_one_is_built(material, tmp_path, monkeypatch):
    """At paper scale each is 32 GB of the GPU's 80."""
    made = trainer(material, tmp_path)
    made._index = index.ExactIndex(material.shards)
    old, build, gone = weakref.ref(made._index), index.build, []
    monkeypatch.setattr(index, "build", lambda *given: gone.append(old() is None) or build(*given))
    made.refresh()
    assert gone == [True]


# ------------------------------------------------------------------ retrieval


def test_a_fixed_retriever_computes_nothing(material, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a fixed retriever was asked")

    monkeypatch.setattr(Retriever, "forward", refuse)
    monkeypatch.setattr(index, "build", refuse)
    monkeypatch.setattr(index, "embed_shard", refuse)
    log = trainer(material, tmp_path, ["reader"], "none", steps=4).run()
    assert len({row["hr_at_5"] for row in log}) == 1
    assert not (tmp_path / "state.index").exists()


def test_a_refresh_drops_the_old_index_before_it_builds_the_new(material, tmp_path, monkeypatch):
    """Two of them would be twice 32 GB at the paper's scale."""
    made = trainer(material, tmp_path, ["retriever"], steps=2, refresh_every=2)
    made.refresh()
    assert made._index is not None
    seen, build = [], index.build
    monkeypatch.setattr(index, "build", lambda *given: (seen.append(made._index), build(*given))[1])
    made.refresh()
    assert seen == [None] and made._index is not None


def test_a_trained_retriever_reads_the_index_of_its_last_refresh(material, tmp_path):
    made = trainer(material, tmp_path, ["retriever"], steps=4, refresh_every=4, learning_rate=1e-2, warmup_steps=0)
    made.run()
    texts = [question.question for question in material.questions["dev"]]
    vectors = made.retriever.embed(made.retriever.tokenise(texts, tiny.RETRIEVAL.question_max_tokens))
    passages = made.retriever.embed(material.tokens[range(len(material.tokens))])
    _, wanted = tiny.naive_search(passages, vectors, tiny.RETRIEVAL.k)
    assert (made.retrieved("dev", np.arange(len(texts)))[1] == wanted).all()
    assert not np.array_equal(passages, np.concatenate(material.shards))


def test_validation_and_retrieval_see_no_dropout(material, tmp_path):
    made = trainer(material, tmp_path, dropout=0.5)
    made._index = index.ExactIndex(material.shards)
    scores, found = made.retrieved("dev", np.arange(6))
    assert (found == material.retrieved["dev"]).all() and made.retriever.training
    told = made.validation()
    assert told == made.validation() and told["score_gap"] == pytest.approx((scores[:, 0] - scores[:, -1]).mean())
    assert trainer(material, tmp_path, ["reader"]).validation() == {"hr_at_5": told["hr_at_5"], "score_gap": None}


def test_gold_is_shown_to_the_reader_that_asks_for_it(material, tmp_path, monkeypatch):
    gold = gold_passages([row["text"] for row in material.corpus], material.questions["train"])
    made = trainer(
        material, tmp_path, ["reader"], "none", distillation=Distillation(context="gold"), gold=gold, steps=1
    )
    shown = []
    encode = made.reader.encode
    monkeypatch.setattr(
        made.reader, "encode", lambda asked, found, answers: shown.append(found) or encode(asked, found, answers)
    )
    made.step(np.arange(12), 0)
    forced = 0
    for row, texts in enumerate(shown[0]):
        found = material.texts(material.retrieved["train"][[row]])[0]
        answers = material.questions["train"][row].answers
        assert hit([text for _, text in texts], answers)
        if not hit([text for _, text in found], answers):
            forced += 1
            assert texts[:-1] == found[:-1] and texts[-1][1] == material.corpus[int(gold[row])]["text"]
    assert forced > 0


# ------------------------------------------------------------------ the log


def test_a_log_row_at_the_start_at_each_refresh_and_at_the_end(material, tmp_path):
    made = trainer(material, tmp_path, steps=5, refresh_every=2)
    log = made.run()
    assert [row["step"] for row in log] == [0, 2, 4, 5]
    losses = ["reader_loss", "retriever_loss"]
    assert list(log[0]) == ["step", *losses, "hr_at_5", "score_gap", "questions_per_second", "seconds"]
    assert log[0]["reader_loss"] is log[0]["retriever_loss"] is None and log[0]["seconds"] == 0
    assert [row for _, row in read_jsonl(tmp_path / "log.jsonl")] == log
    assert all(0 <= row["hr_at_5"] <= 1 and row["score_gap"] > 0 for row in log)


def test_the_same_seed_gives_the_same_run_and_another_another(material, tmp_path):
    runs = [trainer(material, tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1))]
    logs = [untimed(made.run()) for made in runs]
    assert logs[0] == logs[1] != logs[2]
    assert equal(weights(runs[0])["reader"], weights(runs[1])["reader"])
    assert not equal(weights(runs[0])["reader"], weights(runs[2])["reader"])


# ------------------------------------------------------------------ stopped runs


def stop_at(monkeypatch, stop: int):
    step = Trainer.step

    def stopped(self, rows, number, parts):
        if number == stop:
            raise KeyboardInterrupt
        return step(self, rows, number, parts)

    monkeypatch.setattr(Trainer, "step", stopped)


@pytest.mark.parametrize(
    ("trained", "signal", "kind", "stop", "dtype"),
    [
        (BOTH, "attention", "falcon_alibi", 3, torch.float32),
        (BOTH, "attention", "falcon_alibi", 3, torch.bfloat16),
        (BOTH, "perplexity", "t5", 5, torch.float32),  # with dropout in T5
        (["reader"], "none", "t5", 2, torch.float32),
        (["retriever"], "attention", "falcon_alibi", 1, torch.float32),  # before the first refresh: from the start
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(material, tmp_path, monkeypatch, trained, signal, kind, stop, dtype):
    distillation = Distillation(tau_gold=0.3, passage_order="shuffled")
    choices = {"distillation": distillation, "steps": 7, "dropout": 0.2, "dtype": dtype}
    whole = trainer(material, tmp_path / "a", trained, signal, kind, **choices)
    log = untimed(whole.run())
    with monkeypatch.context() as patch:
        stop_at(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            trainer(material, tmp_path / "b", trained, signal, kind, **choices).run()
    (tmp_path / "b" / "log.jsonl").unlink()  # as Snakemake does with a failed job's outputs
    again = trainer(material, tmp_path / "b", trained, signal, kind, **choices)
    taken = []
    step = again.step
    again.step = lambda rows, number, parts: taken.append(number) or step(rows, number, parts)
    assert untimed(again.run()) == log
    assert taken == list(range(stop - stop % 2, 7))
    assert all(equal(weights(whole)[name], weights(again)[name]) for name in BOTH)
    assert equal(masters(whole), masters(again))
    assert [row for _, row in read_jsonl(tmp_path / "b" / "log.jsonl")] == again.log


def test_a_run_killed_after_its_last_step_still_writes_its_log(material, tmp_path):
    done = trainer(material, tmp_path)
    log = done.run()
    (tmp_path / "log.jsonl").unlink()
    again = trainer(material, tmp_path)
    assert untimed(again.run()) == untimed(log) and equal(weights(again)["reader"], weights(done)["reader"])
    assert [row for _, row in read_jsonl(tmp_path / "log.jsonl")] == again.log


def test_the_state_outlives_saving_and_goes_when_the_job_is_done(material, tmp_path):
    made = trainer(material, tmp_path)
    made.run()
    made.save(tmp_path / "checkpoint")
    assert (tmp_path / "state" / "state.json").exists()
    made.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.jsonl"]


def test_what_the_trained_retriever_finds_is_what_it_finds_anew(material, tmp_path):
    """Its last index is of the weights that were saved, float16 shards and all."""
    made = trainer(material, tmp_path, ["retriever"])
    made.run()
    made.retrieve("test", tmp_path / "retrieved.parquet")
    made.save(tmp_path / "checkpoint")
    found = read_retrieved(tmp_path / "retrieved.parquet", len(material.corpus))
    saved = Retriever.load(tmp_path / "checkpoint" / "retriever").eval()
    corpus = saved.embed(material.tokens[range(len(material.tokens))])
    questions = [question.question for question in material.questions["test"]]
    asked = saved.embed(saved.tokenise(questions, tiny.RETRIEVAL.question_max_tokens))
    assert (found == tiny.naive_search(corpus, asked, tiny.RETRIEVAL.k)[1]).mean() > 0.99
    assert (found != material.retrieved["test"]).any()


def test_a_state_of_another_configuration_is_ignored(material, tmp_path):
    first = trainer(material, tmp_path, config="abc")
    first.run()
    assert State(tmp_path / "state").load(first.parts, "abd") is None
    fresh = untimed(trainer(material, tmp_path / "fresh", config="abd", seed=1).run())
    assert untimed(trainer(material, tmp_path, config="abd", seed=1).run()) == fresh


def test_a_kill_between_the_two_renames_loses_nothing(material, tmp_path):
    made = trainer(material, tmp_path)
    made.run()
    state = State(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / ".state.old")
    (tmp_path / ".state.part").mkdir()
    (tmp_path / ".state.part" / "reader.optimizer.safetensors").write_bytes(b"half")
    other = trainer(material, tmp_path)
    assert state.load(other.parts, "abc")["step"] == 6
    assert all(equal(weights(made)[name], weights(other)[name]) for name in BOTH)
    state.save(7, other.parts, {"config_hash": "abc", "log": []})
    assert sorted(path.name for path in tmp_path.iterdir() if "state" in path.name) == ["state", "state.index"]


def test_a_half_written_state_is_not_taken(material, tmp_path, monkeypatch):
    made = trainer(material, tmp_path, steps=2)
    made.run()

    def full(*_args):
        raise OSError("no space left on device")

    monkeypatch.setattr("attention_distillation.training.loop.write_json", full)
    with pytest.raises(OSError, match="no space"):
        made.state.save(4, made.parts, {"config_hash": "abc", "log": []})
    assert made.state.load(made.parts, "abc")["step"] == 2


def test_moments_come_back_as_they_were(material, tmp_path):
    made, other = trainer(material, tmp_path), trainer(material, tmp_path)
    made.run()
    other.state.load(other.parts, "abc")
    for name in BOTH:
        one, two = (each.parts[name][1].state_dict()["state"] for each in (made, other))
        assert one.keys() == two.keys() and one
        assert all(torch.equal(one[n][key], two[n][key]) for n in one for key in ("step", "exp_avg", "exp_avg_sq"))


def test_nothing_is_pickled(material, tmp_path):
    trainer(material, tmp_path).run()
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert set(Counter(path.suffix for path in files)) <= {".json", ".jsonl", ".npy", ".safetensors"}
    for path in files:
        assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"PK"), path
    assert json.loads((tmp_path / "state" / "state.json").read_text())["step"] == 6
