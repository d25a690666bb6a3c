"""Small models of the true classes where no checkpoint is given: language models and a contrastive retriever.

The readers are language models, not question answerers: they see passages, then statements from some of them again,
and learn to go on with what stood in the context. Facts are drawn anew for every sequence (or cropped anew from a
user's corpus), since a small reader that sees one corpus over and over learns it by heart and never looks.
The retriever learns by Contriever's cropping: two spans of one text are a pair, the batch's others are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data import miniature
from ..data.miniature import Fact
from ..settings import Pretraining
from .encoder import Encoder
from .plain_text import plain_text
from .retriever import Retriever

CURRICULUM = {
    "reader": ((0.0, 2, False), (0.25, 3, False), (0.5, 5, False), (0.8, 4, True)),
    "encoder_decoder": ((0.0, 1, False), (0.45, 3, False)),
}
"""From which share of the steps on: how many passages a sequence holds, and whether at full length.
From one passage T5 learns in 400 steps to copy; from two it had not begun to after 1,600."""
COPY_WEIGHT, OTHER_WEIGHT = 1.0, 0.05
HEADED = 0.2
"""Share of the readers' sequences that ask far from where they are answered: see :func:`_task`."""
CROP_TOKENS = 128
"""The most that the retriever reads of a crop while it learns."""
END, PAD, UNKNOWN = "</s>", "<pad>", "<unk>"


# ------------------------------------------------------------------ where facts come from


class WorldFacts:
    """Freshly drawn worlds."""

    crops = ((0.1, 0.5), (0.1, 0.5))
    """Shares of an article that its two crops take: from, to."""

    def facts(self, rng: np.random.Generator, count: int, full: bool) -> list[Fact]:
        """``count`` facts of one new world, with asides where ``full``."""
        return miniature.fresh_facts(rng, count, asides=2 if full else 0)

    def article(self, rng: np.random.Generator) -> str:
        """A text to crop."""
        return miniature.fresh_article(rng)


class CorpusFacts:
    """Spans of a user's corpus: a statement is a few words of a passage, its value the words that follow."""

    crops = ((0.05, 0.2), (0.3, 1.0))
    """As long as a question, and as long as a passage."""

    def __init__(self, corpus) -> None:
        self._corpus = corpus

    def _passage(self, rng: np.random.Generator, length: int) -> tuple[str, list[str]]:
        row = self._corpus[int(rng.integers(len(self._corpus)))]
        words = row["text"].split()
        start = int(rng.integers(max(1, len(words) - length)))
        return row["title"], words[start : start + length]

    def facts(self, rng: np.random.Generator, count: int, full: bool) -> list[Fact]:
        """``count`` spans of as many passages: 60 words each where ``full``, else 20."""
        found = []
        for _ in range(count):
            title, words = self._passage(rng, 60 if full else 20)
            place = int(rng.integers(max(1, len(words) - 8)))
            middle = place + int(rng.integers(2, 6))
            statement, value = " ".join(words[place:middle]), " ".join(words[middle : middle + 4])
            found.append(Fact(title, " ".join(words), statement, statement, value, ""))
        return found

    def article(self, rng: np.random.Generator) -> str:
        """A text to crop."""
        title, words = self._passage(rng, 100)
        return f"{title} {' '.join(words)}"


# ------------------------------------------------------------------ tokenizers


def make_tokenizer(kind: str, texts: Iterator[str] | None, vocabulary: int):
    """A fast tokenizer: of words for a world (``texts`` None), byte-level BPE trained on ``texts`` otherwise.

    Args:
        kind: ``reader`` adds no special tokens, ``encoder_decoder`` ends with ``</s>``, ``retriever`` puts
            ``[CLS]`` and ``[SEP]`` around, as Falcon's, T5's and BERT's do.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, UNKNOWN, END, "[CLS]", "[SEP]"]
    if texts is None:
        names = special + miniature.words() + ["\n"]
        tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("\n", "isolated"),
                pre_tokenizers.Split(" ", "removed"),
                pre_tokenizers.Split(":", "isolated"),
            ]
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocabulary,
                special_tokens=special,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
    ids = {name: tokenizer.token_to_id(name) for name in special}
    if kind == "encoder_decoder":
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    elif kind == "retriever":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END)


# ------------------------------------------------------------------ models


def make_model(kind: str, vocabulary: int, shape: Pretraining, pad_id: int, end_id: int):
    """An untrained model of the true class: Falcon with ALiBi, T5 or BERT."""
    from transformers import (
        BertConfig,
        BertModel,
        FalconConfig,
        FalconForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    width, layers, heads = shape.hidden_size, shape.layers, shape.heads
    torch.manual_seed(shape.seed)
    if kind == "reader":
        return FalconForCausalLM(
            FalconConfig(
                vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                alibi=True, bias=True, multi_query=False, new_decoder_architecture=False, parallel_attn=False,
                hidden_dropout=0.0, attention_dropout=0.0, bos_token_id=end_id, eos_token_id=end_id,
                pad_token_id=pad_id, attn_implementation="sdpa",
            )
        )  # fmt: skip
    if kind == "encoder_decoder":
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=vocabulary, d_model=width, d_kv=width // heads, d_ff=2 * width, num_layers=layers,
                num_decoder_layers=layers, num_heads=heads, dropout_rate=0.0, feed_forward_proj="gated-gelu",
                pad_token_id=pad_id, eos_token_id=end_id, decoder_start_token_id=pad_id, attn_implementation="sdpa",
            )
        )  # fmt: skip
    return BertModel(
        BertConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=4 * width, max_position_embeddings=512, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=pad_id, attn_implementation="sdpa",
        ),
        add_pooling_layer=False,
    )  # fmt: skip


# ------------------------------------------------------------------ objectives


def _ids(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return plain_text(tokenizer)(list(texts), add_special_tokens=False)["input_ids"]


def _statements(tokenizer, facts: list[Fact], rng: np.random.Generator) -> tuple[list[int], list[float]]:
    """The facts stated again in another order, half of them in other words; tokens and their weights in the loss.

    Values weigh most.
    """
    sequence: list[int] = []
    weight: list[float] = []
    for place in rng.permutation(len(facts)):
        fact = facts[place]
        statement = _ids(tokenizer, [fact.paraphrase if rng.random() < 0.5 else fact.statement])[0]
        value, value_weight = _value(tokenizer, fact)
        sequence += statement + value
        weight += [OTHER_WEIGHT] * len(statement) + value_weight
    return sequence, weight


def _value(tokenizer, fact: Fact) -> tuple[list[int], list[float]]:
    value, stop = _ids(tokenizer, [" " + fact.value, " .\n"])
    return value + stop, [COPY_WEIGHT] * len(value) + [OTHER_WEIGHT] * len(stop)


def _padded(rows: Sequence[list], value: float) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def _weighted(logits: torch.Tensor, ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
    return (losses * weight).sum() / weight.sum()


def _task(tokenizer, facts: list[Fact], rng: np.random.Generator) -> tuple[str, list[int], list[float]]:
    """What comes before every passage, what is to be stated of them, and the weights of its tokens.

    Before a share of the sequences (``HEADED``) stands one fact's statement, cut off before its value, and that value
    is all that is to be stated. Before the others stands nothing, and all statements are to be made again.
    """
    headed = rng.random() < HEADED
    topic = facts[rng.integers(len(facts))]
    if headed:
        return f"{topic.paraphrase} ", *_value(tokenizer, topic)
    return "", *_statements(tokenizer, facts, rng)


def reader_loss(model, tokenizer, batch: list[list[Fact]], rng: np.random.Generator) -> torch.Tensor:
    """Language modelling of passages and, after them, their statements in another order.

    In headed sequences the heading stands about as far from the value as a question from its answer; that ``question:``
    and ``answer:`` mean the same is left for fine-tuning to learn.
    """
    sequences, weights = [], []
    for facts in batch:
        heading, statements, weight = _task(tokenizer, facts, rng)
        ids = _ids(tokenizer, [f"{heading}title: {fact.title} context: {fact.text}\n" for fact in facts])
        passages = [token for piece in ids for token in piece]
        sequences.append(passages + statements)
        weights.append([OTHER_WEIGHT] * len(passages) + weight)
    ids, weight = _padded(sequences, tokenizer.pad_token_id), _padded(weights, 0.0)
    logits = model(input_ids=ids, attention_mask=(weight > 0).long(), use_cache=False).logits
    return _weighted(logits[:, :-1], ids[:, 1:], weight[:, 1:])


def encoder_decoder_loss(model, tokenizer, batch: list[list[Fact]], rng: np.random.Generator) -> torch.Tensor:
    """The same task as fusion-in-decoder reads it: each passage encoded by itself, the decoder tells of all.

    All tokens weigh alike: with values alone in the loss T5 did not begin to copy (docs/log.md).
    """
    inputs, labels = [], []
    for facts in batch:
        heading, statements, _ = _task(tokenizer, facts, rng)
        inputs += [f"{heading}title: {fact.title} context: {fact.text}\n" for fact in facts]
        labels.append([*statements, tokenizer.eos_token_id])
    rows = plain_text(tokenizer)(inputs)["input_ids"]
    ids, mask = _padded(rows, tokenizer.pad_token_id), _padded([[1] * len(row) for row in rows], 0)
    states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return model(
        encoder_outputs=(states.view(len(batch), -1, states.shape[-1]),), attention_mask=mask.view(len(batch), -1),
        labels=_padded(labels, -100), use_cache=False,
    ).loss  # fmt: skip


def retriever_loss(
    encoder: Encoder, articles: list[str], crops: Sequence[tuple[float, float]], theta: float, rng: np.random.Generator
) -> torch.Tensor:
    """Contriever's objective: two independent crops of one text are a pair, those of the other texts are not."""

    def crop(text: str, shares: tuple[float, float]) -> str:
        words = text.split()
        length = max(3, round(len(words) * rng.uniform(*shares)))
        start = rng.integers(max(1, len(words) - length + 1))
        return " ".join(words[start : start + length])

    left, right = (encoder(encoder.tokenise([crop(text, shares) for text in articles])) for shares in crops)
    scores = left @ right.T / (np.sqrt(left.shape[1]) * theta)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(articles)))


@torch.no_grad()
def fold_temperature(model, theta: float) -> None:
    """Scale vectors by θ^-½, so that eq. 2 with θ = 1 gives the distribution that the retriever was trained to give."""
    last = model.encoder.layer[-1].output.LayerNorm
    last.weight.mul_(theta**-0.5)
    last.bias.mul_(theta**-0.5)


LOSSES: dict[str, Callable] = {"reader": reader_loss, "encoder_decoder": encoder_decoder_loss}


def _optimiser(kind: str, model, rate: float) -> torch.optim.Optimizer:
    """Adam; of T5 Adafactor, which it was made with: a step is a share of a weight matrix's own size.

    T5's weights begin at sizes from 0.02 (queries) to 1 (embeddings). Adam moves all of them by one rate, which is too
    large for the first and too small for the last, and it copies from one passage much later (docs/log.md).
    """
    if kind != "encoder_decoder":
        return torch.optim.Adam(model.parameters(), lr=rate)
    from transformers.optimization import Adafactor

    return Adafactor(model.parameters(), lr=rate, scale_parameter=True, relative_step=False)


def pretrain(kind: str, source, texts: Iterator[str] | None, shape: Pretraining, folder: str | Path) -> list[dict]:
    """Make a tokenizer and a model of ``kind``, train it, write both to ``folder``; returns the log.

    Args:
        source: :class:`WorldFacts` or :class:`CorpusFacts`.
        texts: what a tokenizer is trained on; None for a world, whose words are known.
    """
    rng = np.random.default_rng([shape.seed, len(kind)])
    tokenizer = make_tokenizer(kind, texts, shape.vocabulary)
    model = make_model(kind, len(tokenizer), shape, tokenizer.pad_token_id, tokenizer.eos_token_id)
    retriever = None
    if kind == "retriever":
        retriever = Retriever.of(model, tokenizer)
        retriever.passage.max_tokens = CROP_TOKENS
    model = (retriever or model).train()
    steps = shape.steps[kind]
    optimizer = _optimiser(kind, model, shape.learning_rate[kind])
    warmup = min(100, steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, 1 - step / steps) + 0.02)
    )
    log, running = [], []
    bar = tqdm(range(steps), desc=f"pretraining {kind}", unit="step", mininterval=5)
    for step in bar:
        if kind == "retriever":
            articles = [source.article(rng) for _ in range(shape.batch_size[kind])]
            loss = retriever_loss(retriever.passage, articles, source.crops, shape.theta, rng)
        else:
            _, count, full = [stage for stage in CURRICULUM[kind] if step >= stage[0] * steps][-1]
            batch = [source.facts(rng, count, full) for _ in range(shape.batch_size[kind])]
            loss = LOSSES[kind](model, tokenizer, batch, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running.append(loss.item())
        if (step + 1) % max(1, steps // 20) == 0:
            log.append({"step": step + 1, "loss": round(float(np.mean(running)), 4)})
            bar.set_postfix(loss=log[-1]["loss"])
            running.clear()
    if retriever:
        fold_temperature(retriever.passage.model[0].model, shape.theta)
        retriever.save(folder)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return log
