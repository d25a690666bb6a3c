"""docs/inputs.md: its table is that of ``fields.yaml``, and its examples are read as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from attention_distillation.data import inputs
from attention_distillation.data.opening import PACKED, SUFFIXES
from attention_distillation.data.rows import FORMS
from attention_distillation.records import Passage, Question

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "inputs.md").read_text("utf-8")
TABLE = yaml.safe_load((ROOT / "workflow" / "reference" / "fields.yaml").read_text("utf-8"))
EXAMPLE = re.compile(r"^([^\n`]+), `([^`\n]+)`:\n\n```\n(.*?)```$", re.MULTILINE | re.DOTALL)
PASSAGE = Passage("7", "Zürich", "Zürich lies on a lake.")
QUESTION = Question("7", "where does zürich lie", ["Switzerland", "Canton of Zürich"])


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names() -> str:
    rows = ["| field | name | used by |", "|---|---|---|"]
    for kind, fields in TABLE.items():
        for field, known in fields.items():
            rows += [f"| {kind}: {field} | `{name}` | {users} |" for name, users in known.items()]
    return "\n".join(rows)


def test_the_table_of_names_is_the_one_that_is_read():
    assert names() in section("Names")


def test_every_form_is_on_the_page():
    assert set(re.findall(r"`(\.[a-z]+)`", section("Forms"))) == {*SUFFIXES, *PACKED}
    assert set(FORMS) == set(SUFFIXES)


PASSAGES = EXAMPLE.findall(section("Passages"))
QUESTIONS = EXAMPLE.findall(section("Questions"))


@pytest.mark.parametrize(("form", "name", "text"), PASSAGES, ids=[form for form, *_ in PASSAGES])
def test_examples_of_passages(tmp_path, form, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    [passage] = inputs.read_passages(tmp_path / name)
    assert passage.id == PASSAGE.id and passage.text == PASSAGE.text
    assert passage.title in ("", PASSAGE.title, f"{PASSAGE.title}: Geography")


@pytest.mark.parametrize(("form", "name", "text"), QUESTIONS, ids=[form for form, *_ in QUESTIONS])
def test_examples_of_questions(tmp_path, form, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    [question] = inputs.read_questions(tmp_path / name, "own-train-")
    assert question.question == QUESTION.question and set(question.answers) <= set(QUESTION.answers)
    assert question.id in (QUESTION.id, "own-train-0") and question.target in ("", QUESTION.answers[0])


def test_there_is_an_example_of_each_published_form():
    text = " ".join(form for form, *_ in [*PASSAGES, *QUESTIONS])
    users = {user for fields in TABLE.values() for known in fields.values() for line in known.values()
             for user in line.split(";")[0].split(" as ")[0].split(", ")}  # fmt: skip
    assert {user for user in users if user not in text} <= {"added to the title"}
