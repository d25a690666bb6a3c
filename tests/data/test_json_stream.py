"""JSON read in pieces of any size is what it is when read whole, and each value's line is known."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.data.json_stream import JsonStream
from attention_distillation.files import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PIECES = st.sampled_from([1, 2, 5, 13, 1 << 20])


def stream(text: str, piece: int, **options) -> JsonStream:
    return JsonStream(io.StringIO(text), "x.json", "mend it", piece=piece, **options)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=5), PIECES, st.sampled_from([None, 0, 2]))
def test_elements_of_a_list(values, piece, indent):
    text = json.dumps(values, indent=indent)
    read = stream(text + "\n ", piece)
    assert list(read.items()) == values and read.peek() == ""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), min_size=1, max_size=4), PIECES)
def test_objects_one_after_the_other_and_their_lines(rows, piece):
    read, seen = stream("\n\n".join(map(json.dumps, rows)), piece), []
    while read.peek():
        seen.append((read.line, {key: read.value() for key in read.members()}))
    assert seen == [(1 + 2 * number, row) for number, row in enumerate(rows)]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[1,\n2', "line 2: not JSON .it ends in the middle"),
        ('[1,\n"a', "line 2: not JSON"),
        ('[1\n 2]', "line 2: not JSON .* before '2"),
        ('[{"a": 1,\n "a": 2}]', "line 1: not JSON .field 'a' stands there twice"),
        ("", "line 1: not JSON .it ends in the middle"),
        ("[nul]", "line 1: not JSON"),
    ],
)  # fmt: skip
def test_faults_name_their_line(text, said, piece):
    with pytest.raises(InputError, match=f"^x.json, {said}.*; mend it"):
        list(stream(text, piece).items())


def test_two_values_under_one_key_may_be_let_through():
    assert list(stream('[{"a": 1, "a": 2}]', 100, objects=None).items()) == [{"a": 2}]


def test_a_fault_is_found_before_gigabytes_are_read():
    class Endless(io.StringIO):
        size = 0

        def read(self, size=-1):
            self.size += size
            assert self.size < 10_000
            return "[1, x" + "y" * (size - 5)

    with pytest.raises(InputError, match="line 1: not JSON"):
        list(JsonStream(Endless(), "x.json", "mend it", piece=1000).items())
