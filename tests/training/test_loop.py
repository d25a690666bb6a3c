"""The loop: what learns and what does not, the log, and a killed run that goes on as if nothing had been."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from runs import BOTH, equal, masters, stop_at, trainer, untimed, weights
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from attention_distillation.files import InputError, read_jsonl
from attention_distillation.metrics import hit
from attention_distillation.models.encoder import Encoder
from attention_distillation.models.retriever import Retriever
from attention_distillation.records import read_retrieved
from attention_distillation.retrieval import index
from attention_distillation.settings import Adapter, Distillation
from attention_distillation.training.context import gold_passages
from attention_distillation.training.loop import Trainer


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.material(tmp_path_factory.mktemp("material"))


# ------------------------------------------------------------------ rates


@pytest.mark.parametrize(("own", "retriever"), [(None, 6e-4), (1e-5, 6e-6)])
def test_each_part_learns_at_its_rate(material, tmp_path, own, retriever):
    """Adam's first step moves a weight by the rate."""
    made = trainer(material, tmp_path, steps=10, warmup_steps=5, learning_rate=1e-3, retriever_learning_rate=own)
    made.index.refresh(0)
    before = weights(made)
    made.step(np.arange(4), 2)
    moved = {
        name: max(float((value - before[name][key]).abs().max()) for key, value in weights(made)[name].items())
        for name in BOTH
    }
    assert moved == {"reader": pytest.approx(6e-4, rel=0.1), "retriever": pytest.approx(retriever, rel=0.1)}


def test_the_gradient_is_clipped_over_reader_and_retriever_together(material, tmp_path):
    """As torch clips the gradients of both models at once."""
    plain, clipped = (trainer(material, tmp_path, clip_norm=clip, warmup_steps=0) for clip in (None, 1e-3))
    for made in (plain, clipped):
        made.index.refresh(0)
        made.step(np.arange(4), 0)
    wanted = [weight.grad for module in plain.modules.values() for weight in module.parameters()]
    owned = torch.nn.ParameterList(torch.nn.Parameter(torch.empty_like(gradient)) for gradient in wanted)
    for parameter, gradient in zip(owned, wanted, strict=True):
        parameter.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(owned, 1e-3)
    assert norm > 1e-2
    taken = [weight.grad for module in clipped.modules.values() for weight in module.parameters()]
    assert all(torch.allclose(a, b.grad, rtol=1e-5, atol=0) for a, b in zip(taken, owned, strict=True))


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
        made.index.refresh(0)
        made.step(np.arange(4), 0)
        gradients.append([parameter.grad.clone() for parameter in made.reader.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_a_batch_in_parts_has_the_gradient_of_the_whole(material, tmp_path):
    gradients, totals = [], []
    for accumulate in (1, 2, 3):
        made = trainer(material, tmp_path, accumulate=accumulate)
        made.index.refresh(0)
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
        return {int(row): line.tolist() for part in parts for row, line in zip(part.rows, part.passages, strict=True)}

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
    saved = Retriever.load(tmp_path / "torch.bfloat16" / "checkpoint" / "retriever").state_dict()
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
    made.optimiser.step = lambda rates: None  # on a GPU it is one fused kernel; on a CPU it reads its own counter
    with Waits() as waits:
        made.step(np.arange(4), 0, parts)
    assert waits.seen == []
    with Waits() as waits:
        made.losses.add(1, np.arange(4), {"reader": torch.ones(())})  # on a CPU it looks at once
    assert waits.seen  # so it would have been seen


# ------------------------------------------------------------------ retrieval


def test_a_fixed_retriever_computes_nothing(material, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a fixed retriever was asked")

    monkeypatch.setattr(Encoder, "__call__", refuse)
    monkeypatch.setattr(index, "build", refuse)
    monkeypatch.setattr(index, "embed_shard", refuse)
    log = trainer(material, tmp_path, ["reader"], "none", steps=4).run()
    assert len({row["hr_at_5"] for row in log}) == 1
    assert not (tmp_path / "state.index").exists()


def test_a_trained_retriever_reads_the_index_of_its_last_refresh(material, tmp_path):
    made = trainer(material, tmp_path, ["retriever"], steps=4, refresh_every=4, learning_rate=1e-2, warmup_steps=0)
    made.run()
    texts = [question.question for question in material.questions["dev"]]
    vectors = made.retriever.question.embed(made.retriever.question.tokenise(texts))
    passages = made.retriever.passage.embed(material.tokens[range(len(material.tokens))])
    _, wanted = tiny.naive_search(passages, vectors, tiny.RETRIEVAL.k)
    assert (made.retrieved("dev", np.arange(len(texts)))[1] == wanted).all()
    assert not np.array_equal(passages, np.concatenate(material.shards))


def test_validation_and_retrieval_see_no_dropout(material, tmp_path):
    made = trainer(material, tmp_path, dropout=0.5)
    made.index.refresh(0)
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


def test_each_thing_has_its_own_time(material, tmp_path):
    cadence = {"refresh_every": 4, "validate_every": 3, "log_every": 2}
    made = trainer(material, tmp_path, steps=7, **cadence)
    refreshed = []
    refresh = made.index.refresh
    made.index.refresh = lambda step: refreshed.append(step) or refresh(step)
    log = made.run()
    assert refreshed == [0, 4, 7]
    assert [row["step"] for row in log] == [0, 2, 3, 4, 6, 7]
    assert [row["step"] for row in log if row["hr_at_5"] is not None] == [0, 3, 6, 7]
    assert all((row["hr_at_5"] is None) == (row["score_gap"] is None) for row in log)
    apart = trainer(material, tmp_path / "apart", steps=7, refresh_every=4)
    sparse = apart.run()
    assert equal(weights(made)["reader"], weights(apart)["reader"])  # looking changes nothing
    assert [row["step"] for row in sparse] == [0, 4, 7]
    means = {row["step"]: row["reader_loss"] for row in log}
    assert sparse[1]["reader_loss"] == pytest.approx((2 * means[2] + means[3] + means[4]) / 4, rel=1e-6)


# ------------------------------------------------------------------ no numbers


def poison(made: Trainer, at: int) -> None:
    """Let the reader's loss be no number at a step."""
    losses, steps = made._losses, iter(range(100))

    def poisoned(part):
        given = losses(part)
        return {
            name: loss * (float("nan") if step == at else 1.0) for step in [next(steps)] for name, loss in given.items()
        }

    made._losses = poisoned


@pytest.mark.parametrize("at", [0, 3])
def test_a_loss_that_is_no_number_stops_the_run_at_once(material, tmp_path, at):
    """It names step and questions, and the state of the step before can be gone on from."""
    made = trainer(material, tmp_path, ["reader"], "none", steps=20, refresh_every=20, save_seconds=1e-9)
    taken, step = [], made.step
    made.step = lambda rows, number, parts: taken.append(rows) or step(rows, number, parts)
    poison(made, at)
    with pytest.raises(
        InputError, match=rf"^step {at + 1}: the reader's loss is nan on questions .*clip_norm"
    ) as error:
        made.run()
    assert len(taken) == at + 1
    assert all(material.questions["train"][row].id in str(error.value) for row in taken[-1])
    assert len(str(error.value).splitlines()) == 1
    kept = trainer(material, tmp_path, ["reader"], "none", steps=20, refresh_every=20)
    assert kept.state.load(kept.modules, kept.optimiser).step == at
    assert all(torch.isfinite(value).all() for value in masters(kept).values())


def test_weights_that_are_no_numbers_are_never_saved(material, tmp_path):
    """The loss of the step that made them was still one."""
    made = trainer(material, tmp_path, ["reader"], "none", steps=20, refresh_every=20, save_seconds=1e-9)
    step = made.optimiser.step
    made.optimiser.step = lambda rates: step(
        {name: float("inf") if made.progress.step == 2 else rate for name, rate in rates.items()}
    )
    with pytest.raises(InputError, match=r"^step 3: a weight is no number"):
        made.run()
    kept = trainer(material, tmp_path, ["reader"], "none", steps=20, refresh_every=20)
    assert kept.state.load(kept.modules, kept.optimiser).step == 2


# ------------------------------------------------------------------ stopped runs

LORA = Adapter(r=2, alpha=4, dropout=0.1)


def killed_and_gone_on_with(monkeypatch, make, run, stop: int) -> Trainer:
    """A run that is killed before it takes the step after ``stop``, and another that goes on from its state."""
    with monkeypatch.context() as patch:
        stop_at(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            make().run()
    (run / "log.jsonl").unlink()  # as Snakemake does with a failed job's outputs
    again = make()
    again.taken, step = [], again.step
    again.step = lambda rows, number, parts: again.taken.append(number) or step(rows, number, parts)
    again.run()
    return again


@pytest.mark.parametrize(
    ("trained", "signal", "kind", "dtype", "stops", "adapter"),
    [
        (["reader"], "none", "falcon_alibi", torch.float32, range(7), None),
        (["retriever"], "attention", "falcon_alibi", torch.float32, range(7), None),
        (BOTH, "attention", "falcon_alibi", torch.float32, range(7), None),
        (BOTH, "attention", "falcon_alibi", torch.bfloat16, [2, 5], None),
        (BOTH, "perplexity", "t5", torch.float32, [4], None),  # with dropout in T5
        (["reader"], "none", "llama_grouped", torch.float32, [0, 3], LORA),
        (BOTH, "attention", "llama_grouped", torch.bfloat16, [5], LORA),
        (BOTH, "perplexity", "t5", torch.float32, [4], LORA),
    ],
)
def test_a_run_killed_at_any_step_ends_as_one_that_was_not(
    material, tmp_path, monkeypatch, trained, signal, kind, dtype, stops, adapter
):
    """Bit for bit, between refreshes too, where the index is older than the state; nothing is done twice."""
    choices = {
        "distillation": Distillation(tau_gold=0.3, passage_order="shuffled"), "dropout": 0.2, "dtype": dtype,
        "steps": 7, "refresh_every": 3, "log_every": 2, "validate_every": 4, "clip_norm": 0.5, "weight_decay": 0.1,
        "adapter": adapter,
    }  # fmt: skip
    whole = trainer(material, tmp_path / "whole", trained, signal, kind, **choices)
    log = untimed(whole.run())
    for stop in stops:
        run = tmp_path / f"killed{stop}"
        again = killed_and_gone_on_with(
            monkeypatch,
            lambda run=run: trainer(material, run, trained, signal, kind, save_seconds=1e-9, **choices),
            run,
            stop,
        )
        assert untimed(again.progress.log) == log, stop
        assert again.taken == list(range(stop, 7))  # saved after every step
        assert all(equal(weights(whole)[name], weights(again)[name]) for name in BOTH), stop
        assert equal(masters(whole), masters(again)), stop
        assert [row for _, row in read_jsonl(run / "log.jsonl")] == again.progress.log


@pytest.mark.parametrize("kind", ["llama_grouped", "t5"])
def test_of_a_reader_trained_by_lora_the_state_holds_the_adapters_alone_and_the_checkpoint_is_whole(
    material, tmp_path, kind
):
    made = trainer(material, tmp_path, ["reader"], "none", kind, adapter=Adapter(r=2), learning_rate=2e-2)
    start = weights(made)["reader"]
    log = made.run()
    assert log[-1]["reader_loss"] < log[1]["reader_loss"]
    with safe_open(tmp_path / "state" / "reader.safetensors", "pt") as file:
        assert all(".lora_" in name for name in file.keys())  # noqa: SIM118
        held = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert held < sum(value.numel() for value in start.values()) / 4
    assert all(torch.equal(value, start[name]) for name, value in weights(made)["reader"].items() if "lora" not in name)
    made.save(tmp_path / "checkpoint")
    again = type(made.reader).load(tmp_path / "checkpoint" / "reader", **made.reader.prompt.model_dump())
    shown = made.prepared(np.arange(4), 0)[0].encoded
    with torch.no_grad():
        left, right = made.reader.eval()(shown).answer_loss, again.eval()(shown).answer_loss
    assert torch.allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize(("stop", "saved"), [(1, 0), (2, 2), (3, 2), (5, 4)])
def test_a_state_is_saved_at_each_refresh_however_seldom_otherwise(material, tmp_path, monkeypatch, stop, saved):
    again = killed_and_gone_on_with(monkeypatch, lambda: trainer(material, tmp_path, steps=7), tmp_path, stop)
    assert again.taken == list(range(saved, 7))


def test_a_run_killed_in_a_refresh_makes_that_refresh_again(material, tmp_path, monkeypatch):
    whole = trainer(material, tmp_path / "whole")
    log, embed, calls = untimed(whole.run()), index.embed_shard, []

    def die_at_the_second(*given, **options):
        calls.append(given[2])
        embed(*given, **options)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index, "embed_shard", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            trainer(material, tmp_path / "killed").run()
    again = trainer(material, tmp_path / "killed")
    assert untimed(again.run()) == log and equal(masters(whole), masters(again))


def test_a_run_killed_after_its_last_step_still_writes_its_log(material, tmp_path, monkeypatch):
    done = trainer(material, tmp_path)
    log = done.run()
    (tmp_path / "log.jsonl").unlink()
    again = trainer(material, tmp_path)
    stop_at(monkeypatch, 0)  # no step is taken
    assert untimed(again.run()) == untimed(log) and equal(weights(again)["reader"], weights(done)["reader"])
    assert [row for _, row in read_jsonl(tmp_path / "log.jsonl")] == again.progress.log


def test_when_states_are_saved_changes_nothing(material, tmp_path):
    logs, ends = [], []
    for seconds in (600, 1e-9):
        made = trainer(material, tmp_path / str(seconds), dtype=torch.bfloat16, save_seconds=seconds)
        logs.append(untimed(made.run()))
        ends.append(masters(made))
    assert logs[0] == logs[1] and equal(*ends)


def test_a_state_of_another_run_is_not_gone_on_from(material, tmp_path, capsys):
    trainer(material, tmp_path, identity=runs.IDENTITY).run()
    fresh = untimed(trainer(material, tmp_path / "fresh", seed=1).run())
    other = trainer(material, tmp_path, seed=1, identity={**runs.IDENTITY, "settings": "abd"})
    assert untimed(other.run()) == fresh
    assert "of step 6 of another run (settings differ); set aside" in capsys.readouterr().err


def test_what_the_trained_retriever_finds_is_what_it_finds_anew(material, tmp_path):
    """Its last index is of the weights that were saved, float16 shards and all."""
    made = trainer(material, tmp_path, ["retriever"])
    made.run()
    made.retrieve("test", tmp_path / "retrieved.parquet")
    made.save(tmp_path / "checkpoint")
    found = read_retrieved(tmp_path / "retrieved.parquet", len(material.corpus))
    saved = Retriever.load(tmp_path / "checkpoint" / "retriever").eval()
    corpus = saved.passage.embed(material.tokens[range(len(material.tokens))])
    questions = [question.question for question in material.questions["test"]]
    asked = saved.question.embed(saved.question.tokenise(questions))
    assert (found == tiny.naive_search(corpus, asked, tiny.RETRIEVAL.k)[1]).mean() > 0.99
    assert (found != material.retrieved["test"]).any()


# ------------------------------------------------------------------ signals and gates


@pytest.mark.parametrize("signal", ["attention_layers", "perplexity", "answer_match", "uniform", "random"])
@pytest.mark.parametrize("skip", ["none", "nothing_found", "low_gain"])
def test_every_signal_trains_the_retriever_alone_under_every_gate(material, tmp_path, signal, skip):
    choices = Distillation(tau_gold=0.5, tau_unit="spread", skip=skip, layers=1, measured_questions=6)
    made = trainer(material, tmp_path, ["retriever"], signal, distillation=choices, steps=2, refresh_every=2)
    before = weights(made)
    log = made.run()
    after = weights(made)
    assert equal(before["reader"], after["reader"])
    assert ("skipped" in log[-1]) == (skip != "none")
    if skip != "none":
        assert 0 <= log[-1]["skipped"] <= 1
    taught = skip == "none" or log[-1]["skipped"] < 1
    assert equal(before["retriever"], after["retriever"]) != taught


def test_a_reader_that_no_signal_needs_is_not_run(material, tmp_path, monkeypatch):
    made = trainer(material, tmp_path, ["retriever"], "answer_match", steps=2, refresh_every=2)
    monkeypatch.setattr(made.reader.model, "forward", lambda **_: pytest.fail("the reader was run"))
    made.run()


def test_what_was_measured_goes_on_with_a_run_that_was_killed(material, tmp_path, monkeypatch):
    choices = {
        "distillation": Distillation(tau_gold=0.5, tau_unit="spread", layers=1, measured_questions=6),
        "refresh_every": 4,
        "save_seconds": 0,
    }
    whole = trainer(material, tmp_path / "whole", BOTH, "attention_layers", **choices)
    whole_log = whole.run()
    assert whole.progress.measured["layers"] and whole.progress.measured["spread"] not in (0.0, 1.0)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)  # between two refreshes
        with pytest.raises(KeyboardInterrupt):
            trainer(material, tmp_path / "killed", BOTH, "attention_layers", **choices).run()
    resumed = trainer(material, tmp_path / "killed", BOTH, "attention_layers", **choices)
    assert untimed(resumed.run()) == untimed(whole_log)
    assert equal(masters(whole), masters(resumed))
