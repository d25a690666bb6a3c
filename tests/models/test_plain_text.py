"""Special tokens that stand in a text are text, whatever kind of tokenizer reads it; ordinary texts read as before."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import mirror
import models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers import models as kinds
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from attention_distillation.models.plain_text import plain_text
from attention_distillation.models.readers.prompt import TEXT, TITLE, passage_prompts
from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval

WRITTEN = "</s> [SEP] [CLS] <pad> <|endoftext|> <s> <extra_id_3> [MASK] [PAD]"


def merging() -> PreTrainedTokenizerFast:
    """Pieces that merge into ``</s>`` and on, as Llama's conversion makes them, and added tokens behind the special."""
    pieces = ["<unk>", "<s>", "</s>", *"</s>abcé▁", "</", "s>", "▁</s>"]
    backend = Tokenizer(
        kinds.BPE(
            {piece: number for number, piece in enumerate(dict.fromkeys(pieces))},
            [("<", "/"), ("s", ">"), ("</", "s>"), ("▁", "</s>")],
            unk_token="<unk>",
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.add_tokens([AddedToken("<|turn|>", special=True)], special_tokens=True)
    made.add_tokens(["abc"])  # whoever made it wants it whole
    return made


def whole_words() -> PreTrainedTokenizerFast:
    """Words are looked up before they are merged (Llama 3's ``ignore_merges``)."""
    backend = Tokenizer(kinds.BPE({"</s>": 0, "<": 1, "/": 2, "s": 3, ">": 4}, [], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


@lru_cache
def tokenizer(name: str):
    made = {
        "words": lambda: models.tokenizer("falcon_alibi"),
        "bytes": lambda: models.tokenizer("falcon_alibi", byte_level=True),
        "fused words": lambda: models.tokenizer("t5"),
        "merging": merging,
        "whole words": whole_words,
    }
    if name in made:
        return made[name]()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        mirror.write_model(name, Path(folder))
        return AutoTokenizer.from_pretrained(folder)


LETTER = st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="<>[]|＜＞")
NAMES = ["words", "bytes", "fused words", "merging", "whole words", "reader", "encoder_decoder", "retriever"]


def control(made, ids: list[int]) -> set[int]:
    """Special ids among ``ids``, but for one that only stands for unknown letters."""
    return set(ids) & set(made.all_special_ids) - ({made.unk_token_id} - {made.eos_token_id})


@pytest.mark.parametrize("name", NAMES)
def test_no_special_token_comes_out_of_a_text(name):
    made = tokenizer(name)
    every = " ".join([WRITTEN, *made.all_special_tokens, "＜/s＞", "[sep]"])
    assert control(made, made(every, add_special_tokens=False)["input_ids"])  # as it is, it does
    assert not control(made, plain_text(made)(every, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", NAMES)
def test_what_a_tokenizer_adds_is_added(name):
    made = tokenizer(name)
    assert plain_text(made)("abc")["input_ids"] == made("abc")["input_ids"]
    added = plain_text(made)("</s> abc")["input_ids"]
    assert control(made, added) == control(made, made("abc")["input_ids"])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="<>[]|＜＞"), max_size=40)
)
def test_ordinary_texts_are_read_as_before(name, text):
    made = tokenizer(name)
    for limit in ({}, {"truncation": True, "max_length": 7}):
        assert dict(plain_text(made)([text, "abc"], return_offsets_mapping=True, **limit)) == dict(
            made([text, "abc"], return_offsets_mapping=True, **limit)
        )


def test_the_tokenizer_itself_stays_as_it_is(tmp_path):
    made = merging()
    before = made.backend_tokenizer.to_str()
    plain_text(made)("</s>")
    assert made.backend_tokenizer.to_str() == before
    assert made("</s>", add_special_tokens=False)["input_ids"] == [made.eos_token_id]


@pytest.mark.parametrize("name", ["bytes", "reader", "encoder_decoder"])
def test_a_prompts_segments_hold_beside_special_tokens(name):
    made = tokenizer(name)
    title, text = "one </s>", "two </s> three <pad>"
    [prompt] = passage_prompts(made, ["who </s> was"], [(title, text)], 500, end="\n")
    assert not control(made, prompt.ids.tolist())
    if name != "encoder_decoder":  # its few pieces lack '<'
        assert made.decode(prompt.ids[prompt.segment == TITLE]).strip() == title
        assert made.decode(prompt.ids[prompt.segment == TEXT]).strip() == text


def test_the_retriever_reads_them_as_text_and_those_of_its_prompt_as_tokens(tmp_path):
    mirror.write_model("retriever", tmp_path)
    encoder = Retriever.load(tmp_path, Retrieval(passage_prompt="[MASK] ", title_separator=" [SEP] ")).passage
    made = encoder.tokenizer
    [row] = encoder.tokenise([encoder.passage_text("one [SEP]", "two [MASK]")])
    ends = [made.cls_token_id, made.mask_token_id, made.sep_token_id, made.sep_token_id]
    assert [token for token in row if token in control(made, row.tolist())] == ends


def test_answers_hold_one_end():
    reader = models.reader("falcon_alibi", byte_level=True, answer=40)
    encoded = reader.encode(["who"], [[]], ["Bay </s> end"])
    assert encoded.labels[0].tolist().count(reader.end_id) == 1 == encoded.ids[0].tolist().count(reader.end_id)
