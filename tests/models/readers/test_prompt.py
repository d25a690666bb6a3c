"""The segment map: which token is a passage's own title or text, by ways that use no offsets."""

from __future__ import annotations

import mirror
import models
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import (
    AutoTokenizer,
    FalconConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    T5Config,
)

from attention_distillation.files import InputError
from attention_distillation.models.readers.prompt import (
    SEGMENT_NAMES,
    TEMPLATE,
    TEXT,
    TITLE,
    cut_questions,
    passage_prompts,
    require_context,
    windows,
)
from attention_distillation.settings import Prompt

WORDS, BYTES = models.tokenizer("falcon_alibi"), models.tokenizer("falcon_alibi", byte_level=True)


def marked(prompt, tokenizer=WORDS) -> list[tuple[str, int]]:
    return list(zip(tokenizer.convert_ids_to_tokens(prompt.ids.tolist()), prompt.segment.tolist(), strict=True))


def by_bytes(ids: list[int], question: str, title: str, text: str, end: str) -> list[int]:
    """Segments by counting bytes: a byte-level token has one letter for each byte that it stands for."""
    pieces = [("question: " + question + " title: ", TEMPLATE), (title, TITLE), (" context: ", TEMPLATE), (text, TEXT),
              (end, TEMPLATE)]  # fmt: skip
    kinds = [kind for piece, kind in pieces for _ in piece.encode()]
    segment, start = [], 0
    for token in BYTES.convert_ids_to_tokens(ids):
        own = kinds[start : start + len(token)]
        start += len(token)
        segment.append(TEXT if TEXT in own else TITLE if TITLE in own else TEMPLATE)
    return segment


def test_only_title_and_text_count_word_by_word():
    [prompt] = passage_prompts(WORDS, ["who was ada"], [("ada bay", "ada died .")], 50, end="\n")
    assert marked(prompt) == [
        *[(word, TEMPLATE) for word in ("question", ":", "who", "was", "ada", "title", ":")],
        *[(word, TITLE) for word in ("ada", "bay")],
        *[(word, TEMPLATE) for word in ("context", ":")],
        *[(word, TEXT) for word in ("ada", "died", ".")],
        ("\n", TEMPLATE),
    ]
    assert SEGMENT_NAMES == {TITLE: "title", TEXT: "text"}


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES], ids=["words", "bytes"])
def test_the_questions_copy_does_not_count_even_where_it_is_the_title_and_the_text(tokenizer):
    same = "ada bay"
    [prompt] = passage_prompts(tokenizer, [same], [(same, same)], 90)
    alone = tokenizer(" " + same, add_special_tokens=False)["input_ids"]
    for kind in (TITLE, TEXT):
        assert tokenizer.decode(prompt.ids[prompt.segment == kind]).strip() == same
        assert int((prompt.segment == kind).sum()) == len(alone)
    first = int((prompt.segment != TEMPLATE).argmax())
    assert same in tokenizer.decode(prompt.ids[:first])  # the copy is there, and before whatever counts


def test_template_words_inside_title_and_text_count():
    [prompt] = passage_prompts(WORDS, ["title : context"], [("context : title", "title : question : answer")], 50)
    assert [word for word, kind in marked(prompt) if kind == TITLE] == ["context", ":", "title"]
    assert [word for word, kind in marked(prompt) if kind == TEXT] == ["title", ":", "question", ":", "answer"]


def test_an_empty_title_has_no_tokens():
    [prompt] = passage_prompts(WORDS, ["who"], [("", "ada")], 50)
    assert TITLE not in prompt.segment
    assert [word for word, kind in marked(prompt) if kind == TEXT] == ["ada"]


MULTI_BYTE = [
    ("wer war Zoë ?", "Zürich", "東京 is a city, 🙂 really; naïve café.", "\n"),
    ("東京?", "東京", "東京", ""),
    ("🙂", "🙂🙂", "🙂", "\n"),
    ("e\u0301", "e\u0301", "\u00a0e\u0301\u3000x", "\n"),
    ("a  b", " leading", "trailing ", "\n"),
]


@pytest.mark.parametrize(("question", "title", "text", "end"), MULTI_BYTE)
def test_multi_byte_letters_cut_into_several_tokens(question, title, text, end):
    [prompt] = passage_prompts(BYTES, [question], [(title, text)], 500, end=end)
    assert prompt.segment.tolist() == by_bytes(prompt.ids.tolist(), question, title, text, end)
    assert BYTES.decode(prompt.ids) == f"question: {question} title: {title} context: {text}{end}"


LETTER = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from(" .:東ü🙂a")
LETTERS = st.text(LETTER, max_size=15)


@settings(max_examples=150, deadline=None)
@given(LETTERS, LETTERS, LETTERS.filter(bool), st.integers(8, 80))
def test_segments_are_those_of_the_bytes_at_any_limit(question, title, text, limit):
    try:
        [prompt] = passage_prompts(BYTES, [question], [(title, text)], limit, end="\n")
    except InputError:
        assert limit < len(f"question:  title: {title} context: ".encode())
        return
    assert not set(prompt.ids) & set(BYTES.all_special_ids)
    shown = cut_questions(BYTES, [question], limit)[question]
    assert prompt.segment.tolist() == by_bytes(prompt.ids.tolist(), shown, title, text, "\n")
    assert len(prompt.ids) == len(prompt.segment) <= limit


@pytest.mark.parametrize("kind", ["reader", "encoder_decoder"])
def test_segments_with_the_tokenizers_of_the_papers_checkpoints(tmp_path, kind):
    """GPT-2's files and a spiece.model: what counts is the title and the text, to the letter."""
    mirror.write_model(kind, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = list(mirror.miniature.passages(mirror.WORLDS["triviaqa"]))[:8]
    prompts = passage_prompts(
        tokenizer, [f"where is {row.title}" for row in rows], [(row.title, row.text) for row in rows], 500, end="\n"
    )
    for row, prompt in zip(rows, prompts, strict=True):
        for segment, told in ((TITLE, row.title), (TEXT, row.text)):
            assert tokenizer.decode(prompt.ids[prompt.segment == segment]).strip() == told
    if kind == "encoder_decoder":
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
        for row in rows:
            assert tokenizer(row.text, add_special_tokens=False)["input_ids"] == pieces.encode(row.text)


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES], ids=["words", "bytes"])
def test_a_prompt_is_cut_to_the_limit_from_its_end(tokenizer):
    question, passage = "who was ada", ("ada bay", "ada died near autumn . " * 4)
    [whole] = passage_prompts(tokenizer, [question], [passage], 10_000, end="\n")
    for limit in (len(whole.ids) - 1, len(whole.ids) - 5):
        [cut] = passage_prompts(tokenizer, [question], [passage], limit, end="\n")
        assert cut.ids.tolist() == whole.ids[:limit].tolist() and cut.segment.tolist() == whole.segment[:limit].tolist()
    [same] = passage_prompts(tokenizer, [question], [passage], len(whole.ids), end="\n")
    assert same.ids.tolist() == whole.ids.tolist()


def test_many_prompts_are_each_their_own():
    passages = [("ada", "bay"), ("axel abel", "amber arrow"), ("", "azure")]
    questions = ["who was ada", "where", "what is the town"]
    together = passage_prompts(WORDS, questions, passages, 30)
    for question, passage, prompt in zip(questions, passages, together, strict=True):
        [alone] = passage_prompts(WORDS, [question], [passage], 30)
        assert marked(prompt) == marked(alone)
    assert passage_prompts(WORDS, [], [], 30) == []


@settings(max_examples=150, deadline=None)
@given(st.text(LETTER, max_size=60), st.integers(4, 60))
def test_a_question_is_cut_only_where_it_takes_more_than_half(question, limit):
    def head(text):
        return len(BYTES(f"question: {text} title: ", add_special_tokens=False)["input_ids"])

    shown = cut_questions(BYTES, [question, "why"], limit)[question]
    assert question.startswith(shown) and (shown == question or head(question) > limit // 2)
    assert head(shown) <= max(limit // 2 + 1, head(""))  # cut between two tokens, which may be cut otherwise alone


def test_a_limit_that_leaves_no_room_is_told_with_its_remedy():
    with pytest.raises(InputError, match=r"prompt\.passage_max_tokens: 4 tokens leave no room .* raise it") as told:
        passage_prompts(WORDS, ["who was ada " * 10], [("ada", "bay")], 4)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("config", "suffices"),
    [
        (GPT2Config(n_positions=1024), False),  # 10 x 128 and an answer
        (LlamaConfig(max_position_embeddings=2048), True),
        (FalconConfig(max_position_embeddings=1024, alibi=True), True),
        (FalconConfig(max_position_embeddings=1024, alibi=False), False),
        (T5Config(), True),
    ],
    ids=["gpt2", "llama", "alibi", "rotary", "t5"],
)
def test_a_reader_with_too_few_positions_is_refused(config, suffices):
    if suffices:
        require_context(config, 10, 128, 40)
        return
    with pytest.raises(InputError, match=r"has 1024 positions.*may take 1320; lower prompt\.passage_max_tokens or"):
        require_context(config, 10, 128, 40)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(num_hidden_layers=3), (0, 3, 0)),
        (MistralConfig(num_hidden_layers=3, sliding_window=64), (3, 3, 64)),
        (MistralConfig(num_hidden_layers=3, sliding_window=None), (0, 3, 0)),
        (Qwen2Config(num_hidden_layers=2, sliding_window=64, use_sliding_window=False), (0, 2, 0)),
        (
            Gemma3TextConfig(
                num_hidden_layers=3, sliding_window=64, layer_types=["sliding_attention"] * 2 + ["full_attention"]
            ),
            (2, 3, 64),
        ),
    ],
    ids=["llama", "mistral", "mistral_without", "qwen2", "gemma3"],
)  # fmt: skip
def test_layers_that_see_a_window_only_are_counted(config, expected):
    assert windows(config) == expected


# ------------------------------------------------------------------ a template of one's own


def test_words_after_the_text_stay_where_a_passage_is_cut():
    template = "{title} : {text} . who is {question}"
    [prompt] = passage_prompts(WORDS, ["ada"], [("axel", "acorn " * 30)], 12, end="\n", template=template)
    assert [word for word, _ in marked(prompt)] == [
        "axel",
        ":",
        "acorn",
        "acorn",
        "acorn",
        "acorn",
        "acorn",
        "acorn",
        ".",
        "who",
        "is",
    ] + ["ada"] + ["\n"] or len(prompt.ids) == 12
    assert marked(prompt)[0] == ("axel", TITLE) and marked(prompt)[2] == ("acorn", TEXT)
    assert marked(prompt)[-2] == ("ada", TEMPLATE) and marked(prompt)[-1] == ("\n", TEMPLATE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "{question} {title}"}, r"template: \{text\} is missing"),
        ({"template": "{title} {text}"}, r"template: \{question\} is missing"),
        ({"closed_book": "ask"}, r"closed_book: \{question\} is missing"),
        ({"template": "{question} {text} {passage}"}, r"template: there is no \{passage\}; it may hold"),
        ({"template": "{question} {text} {text}"}, r"template: \{text\} stands there twice"),
        ({"template": "{question} {text"}, "template: .*braces of your own"),
        ({"template": "{question!r} {text}"}, r"takes no format"),
        ({"answer_head": "{title}:"}, r"answer_head: there is no \{title\}"),
    ],
)
def test_a_template_that_says_too_little_or_too_much_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Prompt(**changes)
