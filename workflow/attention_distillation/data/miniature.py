"""A generated world: things with names that many share, one fact a passage, asked for in other words.

Every entity (a person in the ``nq`` world, a work in the ``triviaqa`` world) has one passage for each relation, and
shares each of its two names with others, so that a name alone finds neither the entity nor the passage. A question
names the relation by words that its passage does not use. An answer is three words of one pool, so that other
passages hold parts of it and its later words can only be copied. Around its fact a passage has sentences that any
passage might have. So it has about 45 tokens and the nearest 5 % of them are three: fewer have no rank correlation.
Longer passages have more such sentences (``asides``) and facts of entities that no question asks for (``other_facts``).

Evaluation worlds are made once, from their seed; :func:`fresh_facts` draws new ones without end, for pretraining.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from ..files import InputError
from ..records import Passage, Question
from ..settings import WORKFLOW, World


@dataclass(frozen=True)
class Relation:
    """One kind of fact: ``text`` states it, ``question`` asks for it; ``{n}`` is the entity, ``{v}`` the value.

    ``paraphrase`` states it in the question's words. No passage has the paraphrase: it stands for what a language model
    knows of language.
    """

    text: str
    question: str
    paraphrase: str


_DATA = yaml.safe_load((WORKFLOW / "reference" / "worlds.yaml").read_text(encoding="utf-8"))
FIRST_NAMES, LAST_NAMES = _DATA["first_names"].split(), _DATA["last_names"].split()
ADJECTIVES, NOUNS, VALUE_WORDS = (_DATA[key].split() for key in ("adjectives", "nouns", "values"))
RELATIONS = {variant: [Relation(**row) for row in rows] for variant, rows in _DATA["relations"].items()}
ASIDES: dict[str, list[str]] = _DATA["asides"]
PARTS_OF_SPEECH: dict[str, str] = {
    **dict.fromkeys(FIRST_NAMES + LAST_NAMES + VALUE_WORDS, "PROPN"),
    **dict.fromkeys(ADJECTIVES, "ADJ"),
    **dict.fromkeys(NOUNS, "NOUN"),
    **{word: part for part, words in _DATA["parts_of_speech"].items() for word in words.split()},
}

PROMPT_WORDS = ["question", "title", "context", "answer"]


def words() -> list[str]:
    """Every word of both worlds and of the prompt, sorted."""
    return sorted({*PARTS_OF_SPEECH, *PROMPT_WORDS})


@dataclass(frozen=True)
class Fact:
    """A fact as a passage has it: title and text, which says among other things ``statement value .``

    ``paraphrase value .`` says the same in the question's words.
    """

    title: str
    text: str
    statement: str
    paraphrase: str
    value: str
    question: str


def _name(variant: str, first: int, last: int) -> str:
    if variant == "nq":
        return f"{FIRST_NAMES[first]} {LAST_NAMES[last]}"
    return f"the {ADJECTIVES[first]} {NOUNS[last]}"


def _fact(
    rng: np.random.Generator, variant: str, relation: Relation, name: str, value: str, asides: int = 2,
    others: Sequence[str] = (),
) -> Fact:  # fmt: skip
    """The fact among asides and other facts' sentences: before, between or after them."""
    statement, paraphrase = (
        sentence.format(n=name, v="\0").split("\0")[0].strip() for sentence in (relation.text, relation.paraphrase)
    )
    sentences = [ASIDES[variant][place] for place in rng.choice(len(ASIDES[variant]), asides, replace=False)]
    for sentence in (*others, relation.text.format(n=name, v=value)):
        sentences.insert(rng.integers(len(sentences) + 1), sentence)
    return Fact(name, " ".join(sentences), statement, paraphrase, value, relation.question.format(n=name))


def _values(rng: np.random.Generator, count: int) -> list[str]:
    """``count`` different values of three different words each."""
    values: dict[str, None] = {}
    while len(values) < count:
        values[" ".join(rng.choice(VALUE_WORDS, 3, replace=False))] = None
    return list(values)


def _names(rng: np.random.Generator, variant: str, count: int) -> list[str]:
    every = _all_names(variant)
    if count > len(every):
        raise InputError(f"world.people: {count} in world {variant}, and there are {len(every)} names.")
    return [every[pair] for pair in rng.choice(len(every), count, replace=False)]


def _all_names(variant: str) -> list[str]:
    firsts, lasts = (FIRST_NAMES, LAST_NAMES) if variant == "nq" else (ADJECTIVES, NOUNS)
    return [_name(variant, first, last) for first in range(len(firsts)) for last in range(len(lasts))]


def facts(world: World) -> list[Fact]:
    """All the facts of an evaluation world, entity by entity.

    Raises:
        InputError: there are not so many names or asides.
    """
    if world.asides > len(ASIDES[world.variant]):
        raise InputError(
            f"world.asides: {world.asides} in world {world.variant}, which has {len(ASIDES[world.variant])}."
        )
    rng = np.random.default_rng([world.seed, 7])
    relations = RELATIONS[world.variant]
    names = _names(rng, world.variant, world.people)
    values = _values(rng, len(names) * len(relations))
    others = _other_facts(world, names, values)
    asked = [(name, relation) for name in names for relation in relations]
    return [
        _fact(rng, world.variant, relation, name, value, world.asides, sentences)
        for (name, relation), value, sentences in zip(asked, values, others, strict=True)
    ]


def _other_facts(world: World, names: list[str], values: list[str]) -> list[list[str]]:
    """For each fact of the world as many sentences on entities that the world has no passage and no question about.

    They share each part of their names with the world's entities, and no value with them.
    """
    count = len(values) * world.other_facts
    if not count:
        return [[] for _ in values]
    rng = np.random.default_rng([world.seed, 10])
    relations, known = RELATIONS[world.variant], set(values)
    strangers = sorted(set(_all_names(world.variant)) - set(names))
    if not strangers:
        raise InputError(
            f"world.other_facts: every name of world {world.variant} has its passages; lower world.people."
        )
    unasked = [value for value in _values(rng, count + len(known)) if value not in known][:count]
    sentences = [
        relations[rng.integers(len(relations))].text.format(n=strangers[rng.integers(len(strangers))], v=value)
        for value in unasked
    ]
    return [sentences[start : start + world.other_facts] for start in range(0, count, world.other_facts)]


def passages(world: World) -> Iterator[Passage]:
    """The world's knowledge base, in shuffled order."""
    known = facts(world)
    for row, place in enumerate(np.random.default_rng([world.seed, 8]).permutation(len(known))):
        yield Passage(str(row), known[place].title, known[place].text)


def questions(world: World) -> dict[str, list[Question]]:
    """Train, dev and test questions; no two splits ask for one fact.

    The ``triviaqa`` world counts a shorter alias too, as TriviaQA counts many.

    Raises:
        InputError: more questions are asked for than there are facts.
    """
    known = facts(world)
    asked = world.train + world.dev + world.test
    if asked > len(known):
        raise InputError(f"world {world.variant}: {asked} questions of {len(known)} facts; lower train, dev or test.")
    order = np.random.default_rng([world.seed, 9]).permutation(len(known))[:asked]
    ends = np.cumsum([world.train, world.dev, world.test])
    splits = {}
    for split, places in zip(("train", "dev", "test"), np.split(order, ends[:-1]), strict=True):
        splits[split] = []
        for number, place in enumerate(places):
            fact = known[place]
            alias = [fact.value.split(" ", 1)[1]] if world.variant == "triviaqa" else []
            splits[split].append(
                Question(f"{world.variant}-{split}-{number}", fact.question, [fact.value, *alias], fact.value)
            )
    return splits


def fresh_facts(rng: np.random.Generator, count: int, asides: int = 2) -> list[Fact]:
    """``count`` facts of a world drawn anew: two or three entities of one kind that share names, all values new."""
    variant = ("nq", "triviaqa")[rng.integers(2)]
    relations = RELATIONS[variant]
    firsts, lasts = (40, 60)
    base = rng.integers(firsts), rng.integers(lasts)
    names = {
        _name(variant, *base),
        _name(variant, base[0], rng.integers(lasts)),
        _name(variant, rng.integers(firsts), base[1]),
    }
    pairs = [(name, relation) for name in sorted(names) for relation in relations]
    values = _values(rng, count)
    picks = rng.choice(len(pairs), count, replace=False)
    return [
        _fact(rng, variant, pairs[pick][1], pairs[pick][0], value, asides)
        for pick, value in zip(picks, values, strict=True)
    ]


def fresh_article(rng: np.random.Generator) -> str:
    """Four facts of a new entity in one text, with few asides: what the retriever's crops are taken from."""
    variant = ("nq", "triviaqa")[rng.integers(2)]
    name = _names(rng, variant, 1)[0]
    relations = rng.permutation(len(RELATIONS[variant]))[:4]
    values = _values(rng, len(relations))
    chosen = [
        _fact(rng, variant, RELATIONS[variant][relation], name, value, asides=int(rng.integers(2)))
        for relation, value in zip(relations, values, strict=True)
    ]
    return " ".join(fact.text for fact in chosen)


def train_tagger(folder: str, *, seed: int = 0, sentences: int = 400) -> float:
    """Train spaCy's tagger on the worlds' own part-of-speech labels; returns its accuracy on sentences unseen.

    Args:
        folder: where the pipeline is written (``spacy.load(folder)``).
    """
    import random

    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example

    rng = np.random.default_rng([seed, 11])
    random.seed(seed)
    spacy.util.fix_random_seed(seed)
    tagger = spacy.blank("en")
    tagger.add_pipe("morphologizer")

    def example(sentence: str) -> Example:
        tokens = tagger.make_doc(sentence)
        tags = [PARTS_OF_SPEECH.get(token.text, "X") for token in tokens]
        spaces = [bool(token.whitespace_) for token in tokens]
        return Example(tokens, Doc(tagger.vocab, words=[token.text for token in tokens], spaces=spaces, pos=tags))

    texts = [text for _ in range(sentences) for fact in fresh_facts(rng, 2) for text in (fact.question, fact.text)]
    examples = [example(text) for text in texts]
    held_out, training = examples[:100], examples[100:]
    tagger.initialize(lambda: training)
    for _ in range(2):
        random.shuffle(training)
        for batch in spacy.util.minibatch(training, 32):
            tagger.update(batch)
    tagger.to_disk(folder)
    return float(tagger.evaluate(held_out)["pos_acc"])
