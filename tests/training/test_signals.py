"""Targets and losses of the retriever against loops, Atlas's definitions and single forwards, written out here."""

from __future__ import annotations

import math
import typing
from dataclasses import replace

import models
import naive
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.models.readers import Encoded, Output
from attention_distillation.records import Question
from attention_distillation.settings import Analysis, Distillation, Experiment
from attention_distillation.training import measuring, signals

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


# ------------------------------------------------------------------ passages


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(1, 6), st.integers(0, 20))
def test_passage_scores_are_sums_over_own_tokens(seed, batch, k, length):
    attention = drawn(seed, batch, length).abs()
    owner = torch.randint(-1, k, (batch, length), generator=torch.Generator().manual_seed(seed))
    found = signals.passage_scores(attention, owner, k)
    assert found.shape == (batch, k)
    for row in range(batch):
        for passage in range(k):
            own = [attention[row, t].item() for t in range(length) if owner[row, t] == passage]
            assert found[row, passage].item() == pytest.approx(math.fsum(own), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 6), st.floats(0.005, 5))
def test_distribution_is_atlas_softmax_over_temperature_gold(seed, batch, k, tau):
    scores = drawn(seed, batch, k, scale=0.1)
    found = signals.distribution(scores, tau)
    for row in range(batch):
        assert found[row].tolist() == pytest.approx(softmax([score / tau for score in scores[row].tolist()]), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 6), st.integers(1, 40), st.floats(0.1, 3))
def test_retriever_distribution_is_atlas_score_over_root_d(seed, batch, k, size, theta):
    questions, passages = drawn(seed, batch, size), drawn(seed + 1, batch, k, size)
    found = signals.retriever_log_distribution(questions, passages, math.sqrt(size) * theta)
    for row in range(batch):
        question = questions[row].tolist()
        scores = [sum(q * n for q, n in zip(question, passages[row, i].tolist(), strict=True)) for i in range(k)]
        hand = softmax([score / (math.sqrt(size) * theta) for score in scores])
        assert found[row].exp().tolist() == pytest.approx(hand, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_kl_is_a_mean_over_questions_and_a_sum_over_passages(seed, batch, k, certain):
    target = drawn(seed, batch, k, scale=200.0 if certain else 1.0).softmax(-1)  # 200: zeros in the target
    log_found = drawn(seed + 1, batch, k).log_softmax(-1)
    hand = 0.0
    for row in range(batch):
        for p, log_q in zip(target[row].tolist(), log_found[row].tolist(), strict=True):
            hand += p * (math.log(p) - log_q) if p > 0 else 0.0
    assert signals.kl(target, log_found).item() == pytest.approx(hand / batch, abs=1e-5)


def test_kl_by_hand_and_zero_where_equal():
    target, found = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]]).log()
    assert signals.kl(target, found).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert signals.kl(target, target.log()).item() == pytest.approx(0, abs=1e-7)
    assert signals.kl(target.repeat(7, 1), found.repeat(7, 1)).item() == pytest.approx(signals.kl(target, found).item())


def test_the_gradient_of_the_loss_is_the_difference_of_the_distributions():
    questions, passages = drawn(1, 2, 8).requires_grad_(), drawn(2, 2, 3, 8).requires_grad_()
    target = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    log_found = signals.retriever_log_distribution(questions, passages, math.sqrt(8))
    signals.kl(target, log_found).backward()
    rise = (log_found.exp() - target).detach() / (math.sqrt(8) * 2)  # ∂KL/∂s, mean over two questions
    torch.testing.assert_close(passages.grad, rise[..., None] * questions.detach()[:, None])
    torch.testing.assert_close(questions.grad, torch.einsum("bk,bkd->bd", rise, passages.detach()))


def test_signals_and_token_distributions_are_the_words_of_the_settings():
    words = set(typing.get_args(Experiment.model_fields["signal"].annotation))
    assert set(signals.SIGNALS) == words - {"none"}
    words = set(typing.get_args(Analysis.model_fields["token_distribution"].annotation))
    assert set(signals.TOKEN_DISTRIBUTIONS) == words
    assert Distillation().theta == 1.0


@torch.no_grad()
@pytest.mark.parametrize("name", ["t5", "falcon_alibi"])
def test_the_default_temperature_is_atlas_s_gold_score_over_its_temperature_gold(name):
    """Atlas, src/fid.py: a passage's sum over layers, heads' mean and answer tokens, over 256 · layers · answer tokens;
    then over ``temperature_gold``, 0.01."""
    given = replace(shown(models.reader(name)), distillation=Distillation())
    layers = given.output.layer_attention
    for number in range(2):
        answers = int((given.encoded.labels[number] != -100).sum())
        scores = []
        for passage in range(3):
            own = given.encoded.passage[number] == passage
            whole = sum(layer[number][own].sum().item() * answers for layer in layers)  # ours is a mean over answers
            scores.append(whole / (256 * len(layers) * answers) / 0.01)
        found = signals.target("attention", given)[number]
        assert found.tolist() == pytest.approx(softmax(scores), abs=1e-6)


# ------------------------------------------------------------------ signals of a reader


@pytest.fixture
def t5():
    return models.reader("t5")


def units(reader, encoded: Encoded):
    """(question, passage, ids of it alone, the answer's ids, its tokens' places in the batch, in those ids)."""
    batch, k = len(encoded.ids), int(encoded.prompt.max()) + 1
    for number in range(batch):
        labels = encoded.labels[number]
        answer = labels[labels != -100]
        ids, mask = encoded.ids[number].flatten(), encoded.mask[number].flatten()
        for passage in range(k):
            mine = [t for t in range(len(ids)) if mask[t] and encoded.prompt[number, t] == passage]
            if encoded.ids.dim() == 2:  # the start before it, the answer's head and the answer after it
                shared = [t for t in range(len(ids)) if mask[t] and encoded.prompt[number, t] < 0]
                mine = [t for t in shared if t < mine[0]] + mine + [t for t in shared if t > mine[-1]]
            places = [t for t in mine if encoded.passage[number, t] == passage]
            yield number, passage, ids[mine], answer, places, [mine.index(t) for t in places]


def single_loss(reader, ids, answer, **inputs):
    """Mean loss of an answer given one unpadded passage, by transformers' own labels loss."""
    given = {"input_ids": ids[None]} if ids is not None else inputs
    labels = answer[None]
    if not reader.model.config.is_encoder_decoder:
        size = next(iter(given.values())).shape[1]
        labels = torch.cat([torch.full((size - len(answer),), -100), answer])[None]
    return reader.model(**given, labels=labels).loss


@pytest.fixture(params=["t5", "falcon_alibi", "llama_grouped"])
def any_reader(request):
    return models.reader(request.param)


QUESTIONS = [
    Question(str(number), question, [answer])
    for number, (question, answer) in enumerate(zip(models.QUESTIONS, models.ANSWERS, strict=True))
]


def shown(reader, record: bool = True, **given) -> signals.Shown:
    """``models``' two questions with three passages each, as a reader reads them."""
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    given = {"texts": models.PASSAGES, "distillation": Distillation(tau_gold=0.3), **given}
    return signals.Shown(
        reader, encoded, reader(encoded, record=record), QUESTIONS, models.ANSWERS, [4, 9], [[0, 1, 2], [2, 7, 5]],
        **given,
    )  # fmt: skip


def sums_by_hand(reader, encoded, of=lambda layers: layers) -> torch.Tensor:
    """S_i (2, 3) from attention written out in float64, of each question read without padding."""
    total = torch.zeros(2, 3, dtype=torch.float64)
    for number in range(2):
        real, answers = encoded.mask[number].bool(), int((encoded.labels[number] != -100).sum())
        ids = encoded.ids[number][real]
        _, layers = naive.forward(reader.model, ids)
        rows = range(len(ids) - 1 - answers, len(ids) - 1)
        values = naive.token_attention(of(layers), list(rows))
        for passage in range(3):
            total[number, passage] = values[encoded.passage[number][real] == passage].sum()
    return total


@pytest.fixture(params=["falcon_alibi", "llama_grouped"])
def decoder_only(request):
    return models.reader(request.param)


def test_attention_is_equation_1_of_the_recorded_forward(t5):
    for reader in (t5, models.reader("falcon_alibi")):
        given = shown(reader)
        found, encoded = signals.target("attention", given), given.encoded
        for number in range(2):
            sums = [given.output.token_attention[number][encoded.passage[number] == i].sum().item() for i in range(3)]
            assert found[number].tolist() == pytest.approx(softmax([total / 0.3 for total in sums]), abs=1e-5)
        assert not found.requires_grad


@torch.no_grad()
def test_attention_signals_are_those_of_attention_written_out(decoder_only):
    given = shown(decoder_only)
    places = [[0.3, 0.1, 0.2], [0.0, 0.5, 0.4]]
    hand = sums_by_hand(decoder_only, given.encoded)
    expected = {"attention": hand, "attention_centred": hand - torch.tensor(places).double().mean(0)}
    second = sums_by_hand(decoder_only, given.encoded, lambda layers: layers[1:2])
    expected["attention_layers"] = second - torch.tensor(places[1]).double()
    empty = decoder_only.encode([signals.NO_QUESTION] * 2, models.PASSAGES, models.ANSWERS)
    expected["attention_calibrated"] = hand - sums_by_hand(decoder_only, empty)
    measured = signals.Measured(places, [1])
    for name, scores in expected.items():
        found = signals.SIGNALS[name](replace(given, measured=measured))
        torch.testing.assert_close(found.double(), scores, rtol=1e-4, atol=1e-6)
    assert (expected["attention_layers"] - expected["attention"]).abs().max() > 0.01


@torch.no_grad()
def test_attention_signals_of_fusion_in_decoder_are_sums_over_its_cross_attention(t5):
    given = shown(t5)
    by_layer = torch.stack(
        [
            torch.stack([(layer * (given.encoded.passage == i)).sum(1) for i in range(3)], 1)
            for layer in given.output.layer_attention
        ]
    )
    places = by_layer.mean(1).tolist()
    found = signals.SIGNALS["attention_layers"](
        replace(given, measured=signals.Measured(places, list(range(len(places)))))
    )
    torch.testing.assert_close(found, (by_layer - by_layer.mean(1, keepdim=True)).mean(0), rtol=1e-4, atol=1e-6)
    centred = signals.SIGNALS["attention_centred"](replace(given, measured=signals.Measured(places)))
    torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-6)  # of all layers it is the same
    empty = t5.encode([signals.NO_QUESTION] * 2, models.PASSAGES, models.ANSWERS)
    without = t5(empty, record=True).token_attention
    hand = by_layer.mean(0) - torch.stack([(without * (empty.passage == i)).sum(1) for i in range(3)], 1)
    torch.testing.assert_close(signals.SIGNALS["attention_calibrated"](given), hand, rtol=1e-4, atol=1e-6)


BEARING = [[("", f"It is {models.ANSWERS[0]}."), ("", "no"), ("", models.ANSWERS[0])], [("", "no")] * 3]


def test_answer_match_is_alike_over_what_bears_an_answer_and_over_all_where_nothing_does(t5):
    given = shown(t5, texts=BEARING)
    assert given.bears.tolist() == [[True, False, True], [False] * 3]
    for tau in (0.01, 3.0):
        found = signals.target("answer_match", replace(given, distillation=Distillation(tau_gold=tau)))
        torch.testing.assert_close(found, torch.tensor([[0.5, 0, 0.5], [1 / 3] * 3]))
    torch.testing.assert_close(signals.target("uniform", given), torch.full((2, 3), 1 / 3))


def test_random_is_a_number_of_question_passage_and_seed_alone(t5):
    given = shown(t5, record=False)
    scores = signals.SIGNALS["random"](given)
    assert scores.unique().numel() == 6
    turned = replace(given, passages=[[2, 1, 0], [5, 7, 2]])
    assert torch.equal(signals.SIGNALS["random"](turned), scores.flip(1))
    assert not torch.equal(signals.SIGNALS["random"](replace(given, seed=1)), scores)
    many = replace(given, rows=range(2000), passages=[range(5)] * 2000)
    drawn = signals.SIGNALS["random"](many)
    assert drawn.mean().abs() < 0.05 and (drawn.std() - 1).abs() < 0.05


def test_a_temperature_in_spreads_is_the_same_target_whatever_the_scale_of_the_scores(t5):
    given = shown(t5)
    for name in signals.SIGNALS:
        measured = measuring.measure(name, [given])
        scores = signals.SIGNALS[name](replace(given, measured=measured))
        wide = replace(given, measured=measured, distillation=Distillation(tau_gold=0.5, tau_unit="spread"))
        torch.testing.assert_close(signals.target(name, wide), (scores / (0.5 * measured.spread)).softmax(1))
        if name not in ("uniform", "answer_match"):
            assert measured.spread == pytest.approx(scores.std(1, correction=0).mean().item(), rel=1e-4)


# ------------------------------------------------------------------ what is measured first


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(2, 6))
def test_pick_rates_are_counts_over_questions_that_tell(seed, batch, k):
    scores, bears = drawn(seed, 3, batch, k), drawn(seed + 1, batch, k) > 0.5
    for layer in range(3):
        tells = [row for row in range(batch) if 0 < int(bears[row].sum()) < k]
        hits = [bool(bears[row, max(range(k), key=lambda i: scores[layer, row, i])]) for row in tells]  # noqa: B023
        hand = sum(hits) / len(hits) if hits else 0.0
        assert measuring.pick_rates(scores, bears)[layer].item() == pytest.approx(hand)


def test_layers_are_those_that_pick_the_answer_once_each_place_has_its_mean_off(monkeypatch, t5):
    texts = [[("", "no")] * 3 for _ in range(6)]
    for row in range(6):
        texts[row][row % 3] = ("", models.ANSWERS[0])
    asked = [QUESTIONS[0]] * 6
    layers = torch.zeros(3, 6, 3)
    layers[0] += torch.tensor([9.0, 0.0, 0.0])  # place alone
    layers[1] += torch.tensor([5.0, 0.0, 0.0])
    for row in range(6):
        layers[1, row, row % 3] += 1  # place and answer: only without the place's mean it picks
        layers[2, row, (row + 1) % 3] += 1  # the wrong one
    given = replace(shown(t5), questions=asked, texts=texts, distillation=Distillation(layers=1), rows=range(6))
    monkeypatch.setattr(signals, "layer_scores", lambda _shown: layers)
    monkeypatch.setattr(signals, "attention", lambda _shown: layers.mean(0))
    measured = measuring.measure("attention_layers", [given])
    assert measured.layers == [1]
    torch.testing.assert_close(torch.tensor(measured.places), layers.mean(1))


# ------------------------------------------------------------------ the gate


def test_nothing_found_leaves_out_questions_of_which_no_passage_bears_an_answer(t5):
    assert signals.GATES["nothing_found"](shown(t5, texts=BEARING)).tolist() == [True, False]


def test_low_gain_leaves_out_questions_whose_answer_is_no_likelier_with_passages(any_reader):
    given = shown(any_reader, record=False)
    closed = any_reader.encode(models.QUESTIONS, [[], []], models.ANSWERS)
    without = any_reader(closed).answer_loss
    expected = (given.output.answer_loss < without).tolist()
    assert signals.GATES["low_gain"](given).tolist() == expected
    for sign in (1, -1):  # whatever the models say, either way is possible
        losses = Output(without.detach() + torch.tensor([0.1, -0.1]) * sign)
        learnt = signals.GATES["low_gain"](replace(given, output=losses))
        assert learnt.tolist() == [sign < 0, sign > 0]


def test_gates_are_the_words_of_the_settings():
    words = set(typing.get_args(Distillation.model_fields["skip"].annotation))
    assert set(signals.GATES) == words - {"none"}


def test_what_a_gate_leaves_out_counts_as_zero_and_has_no_gradient():
    target, scores = drawn(1, 3, 4).softmax(1), drawn(2, 3, 4).requires_grad_()
    whole = signals.kl(target, scores.log_softmax(1))
    assert signals.kl(target, scores.log_softmax(1), torch.tensor([True] * 3)) == whole
    learnt = torch.tensor([True, False, True])
    parts = [signals.kl(target[[row]], scores[[row]].log_softmax(1)).item() for row in range(3)]
    loss = signals.kl(target, scores.log_softmax(1), learnt)
    assert loss.item() == pytest.approx((parts[0] + parts[2]) / 3, abs=1e-6)
    loss.backward()
    assert (scores.grad[1] == 0).all() and (scores.grad[0] != 0).all()
    assert signals.kl(target, scores.log_softmax(1), torch.tensor([False] * 3)).item() == 0


def test_perplexity_is_k_separate_forwards(any_reader):
    t5 = any_reader
    given = shown(t5, record=False, distillation=Distillation(tau_gold=0.2))
    encoded, found = given.encoded, signals.target("perplexity", given)
    losses = [[0.0] * 3 for _ in range(2)]
    for number, passage, ids, answer, _, _ in units(t5, encoded):
        losses[number][passage] = single_loss(t5, ids, answer).item()
    for number in range(2):
        assert found[number].tolist() == pytest.approx(softmax([-loss / 0.2 for loss in losses[number]]), abs=1e-5)
        assert max(found[number]) - min(found[number]) > 0.05
    assert not found.requires_grad


@pytest.mark.parametrize("name", ["perplexity", "attention_calibrated"])
def test_a_forward_of_the_signals_own_has_no_dropout_in_training_and_leaves_the_mode(t5, name):
    given = shown(t5.eval())
    calm = signals.SIGNALS[name](given)
    assert not t5.training
    t5.train()
    noisy = signals.SIGNALS[name](given)
    assert t5.training and t5.model.training
    torch.testing.assert_close(calm, noisy)


@pytest.mark.parametrize("name", sorted(signals.SIGNALS))
def test_no_target_requires_a_gradient_even_while_the_reader_learns(t5, name):
    t5.train()
    given = shown(t5, record=name in signals.RECORDED)
    assert given.output.answer_loss.requires_grad
    given = replace(given, measured=measuring.measure(name, [given]))
    target = signals.target(name, given)
    assert not target.requires_grad and target.grad_fn is None and target.dtype == torch.float32
    torch.testing.assert_close(target.sum(1), torch.ones(2))
    assert not signals.distribution(torch.ones(1, 2, requires_grad=True), 1.0).requires_grad


# ------------------------------------------------------------------ tokens


@torch.no_grad()
@pytest.mark.parametrize("size", [4, 256])
def test_occlusion_is_one_token_at_a_time(any_reader, size):
    t5 = any_reader
    encoded = t5.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    found = signals.occlusion(t5, encoded, 0.5, size)
    hand = torch.zeros(encoded.passage.shape)
    for number, _, ids, answer, places, own in units(t5, encoded):
        base = single_loss(t5, ids, answer).item()
        rises = []
        for token in own:
            masked = ids.clone()
            masked[token] = t5.tokenizer.unk_token_id  # this tokenizer has no mask token
            rises.append((single_loss(t5, masked, answer).item() - base) / 0.5)
        for place, share in zip(places, softmax(rises), strict=True):
            hand[number, place] = share
    torch.testing.assert_close(found, hand, rtol=1e-4, atol=1e-5)
    assert (found[encoded.passage < 0] == 0).all() and found.max() > 0.2
    torch.testing.assert_close(found.sum(1), torch.full((2,), 3.0))  # three passages, each a distribution


def test_gradient_distribution_is_autograd_by_hand(any_reader):
    t5 = any_reader
    encoded = t5.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    with torch.no_grad():  # as the dump calls it
        found = signals.input_gradient(t5, encoded, 1.0)
    hand = torch.zeros(encoded.passage.shape)
    for number, _, ids, answer, places, own in units(t5, encoded):
        vectors = t5.model.get_input_embeddings().weight[ids][None].detach().requires_grad_()
        single_loss(t5, None, answer, inputs_embeds=vectors).backward()
        sizes = [(vectors.grad[0, t].norm() * vectors[0, t].norm()).item() for t in own]
        for place, value in zip(places, sizes, strict=True):
            hand[number, place] = value / sum(sizes)
    torch.testing.assert_close(found, hand, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad
    t5.zero_grad()
    signals.input_gradient(t5, encoded, 1.0)
    assert all(weight.grad is None for weight in t5.parameters())
    assert not t5.context_embeddings._forward_hooks


def test_alone_keeps_ids_masks_and_answers_and_names_each_passage_the_first(any_reader):
    encoded = any_reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    own, tokens = any_reader.alone(encoded)
    ids, flat = own.ids.flatten(1), encoded.ids.flatten(1)
    for row, (number, _, alone, answer, places, inside) in enumerate(units(any_reader, encoded)):
        real = own.mask.flatten(1)[row].bool()
        assert ids[row][real].tolist() == alone.tolist()
        assert own.labels[row][own.labels[row] != -100].tolist() == answer.tolist()
        assert (own.passage[row][real] == 0).nonzero().flatten().tolist() == inside
        assert tokens[row][real][inside].tolist() == places
        assert own.segment[row][real].tolist() == encoded.segment[number][tokens[row][real]].tolist()
        assert ids[row][real].tolist() == flat[number][tokens[row][real]].tolist()
        assert (own.passage[row][~real] == -1).all() and set(own.passage[row].tolist()) <= {-1, 0}
