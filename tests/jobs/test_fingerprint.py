"""The fingerprint of code: blind to how it reads, sensitive to what it does, in everything that is used."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_distillation.jobs import fingerprint, reading

MAIN = '''"""A module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from . import helper, table
from .sub import Thing

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 3
"""What LIMIT means."""


def formula(x: int, *, keep=False) -> int:
    """Doc."""
    # why
    result: int = helper.twice(x) + LIMIT
    return [result * item for item in range(x)]


def checked(x):
    if x < 0:
        raise ValueError(f"{x} is below zero")
    return math.sqrt(x)


def alone():
    return 1


class Row(BaseModel):
    size: int = Field(3, description="how large")

    def area(self):
        return self.size**2


def launched():
    return __name__


if __name__ == "__main__":
    alone()
'''
FILES = {
    "__init__.py": '"""Package."""\n',
    "main.py": MAIN,
    "helper.py": "def twice(x):\n    from .late import late\n    return 2 * late(x)\n\n\ndef unused():\n    return 7\n",
    "late.py": "def late(x):\n    return x\n",
    "table.py": "from .kinds import One, Two\n\nKINDS = {'one': One, 'two': Two}\n",
    "kinds.py": "class Base:\n    def go(self):\n        return 0\n\n\nclass One(Base):\n    def run(self):\n"
    "        return 1\n\n\nclass Two(Base):\n    pass\n",
    "sub/__init__.py": "from .thing import Thing\n",
    "sub/thing.py": "from ..deep import deep\n\n\nclass Thing:\n    '''Doc.'''\n\n    def run(self):\n"
    "        return deep()\n",
    "deep.py": "def deep():\n    return 5\n",
    "handed.py": "def first():\n    return 1\n\n\nsecond = 2\n",
    "star.py": "def shining():\n    return 1\n",
    "effect.py": "import os\n\nos.environ['X'] = '1'\nvalue = 3\n",
    "register.py": "ALL = {}\n\n\ndef register(function):\n    ALL[function.__name__] = function\n"
    "    return function\n",
    "plugins.py": "from .register import ALL, register\n\n\n@register\ndef first():\n    return 1\n\n\ndef every():\n"
    "    return ALL\n",
}
SCRIPTS = {
    "formula": "main.formula(snakemake.params.x)",
    "checked": "main.checked(1)",
    "row": "main.Row()",
    "launched": "main.launched()",
    "kinds": "main.table.KINDS[snakemake.params.kind]",
    "thing": "main.Thing()",
    "handed": "print(handed)",
    "star": "from package.star import *\n\nshining()",
    "effect": "print(effect.value)",
    "plugins": "plugins.every()",
    "words": "open('reference/words.yaml')",
}
HEAD = "from package import effect, handed, main, plugins\n\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few modules in place of the real one; call it to get a script's hash anew."""
    for name, text in FILES.items():
        (tmp_path / "package" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / name).write_text(text)
    (tmp_path / "scripts").mkdir()
    for name, text in SCRIPTS.items():
        (tmp_path / "scripts" / f"{name}.py").write_text(f'"""Doc."""\n{HEAD}{text}\n')
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "words.yaml").write_text("names: ada bay\n")
    for name, folder in (("PACKAGE", "package"), ("SCRIPTS", "scripts"), ("REFERENCE", "reference")):
        monkeypatch.setattr(fingerprint, name, tmp_path / folder)

    def code(script):
        fingerprint.forget()
        return fingerprint.code(script)

    yield tmp_path / "package", code
    fingerprint.forget()


def changed(package, file, old, new):
    """Scripts whose hash changes when ``old`` becomes ``new``."""
    folder, code = package
    before = {script: code(script) for script in SCRIPTS}
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return {script for script in SCRIPTS if code(script) != before[script]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# why", "# why not\n\n    # or so"),
        ('"""Doc."""', '"""Another\n    docstring."""'),
        ('    """Doc."""\n', ""),
        ('"""A module."""', ""),
        ('"""What LIMIT means."""', '"""What it limits."""'),
        ("helper.twice(x) + LIMIT", "(\n        helper.twice(x)\n        + LIMIT\n    )"),
        ("LIMIT = 3", "LIMIT = 0x3"),
        ("x: int, *", "x: float, *"),
        (") -> int:", ") -> float:"),
        ("result: int =", "result ="),
        ("result", "outcome"),
        ("item", "element"),
        ("    from pathlib import Path", "    from os import PathLike"),
        ("is below zero", "is negative: give one that is not"),
        ('"how large"', '"its size"'),
        ("def alone():\n    return 1", "def alone():\n    return 2\n\n\ndef another():\n    return 3"),
    ],
)
def test_how_it_reads_does_not_count(package, old, new):
    assert changed(package, "main.py", old, new) - {"launched"} == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "scripts"),
    [
        ("main.py", "+ LIMIT", "- LIMIT", {"formula"}),
        ("main.py", "LIMIT = 3", "LIMIT = 4", {"formula"}),
        ("main.py", "keep=False", "keep=True", {"formula"}),
        ("main.py", "x: int, *", "y: int, *", {"formula"}),  # a parameter is called by its name
        ("main.py", "result * item", "item * item", {"formula"}),
        ("main.py", "x < 0", "x <= 0", {"checked"}),
        ("main.py", "raise ValueError", "raise KeyError", {"checked"}),
        ("main.py", "import math", "import cmath as math", {"checked"}),
        ("main.py", "size: int", "size: float", {"row"}),  # pydantic reads it
        ("main.py", "Field(3", "Field(4", {"row"}),
        ("main.py", "self.size**2", "self.size**3", {"row"}),  # methods of a used class
        ("main.py", "    alone()", "    alone() + 1", {"launched"}),  # 'python -m' of the module itself
        ("main.py", "    return 1", "    return 2", {"launched"}),
        ("helper.py", "2 * late", "3 * late", {"formula"}),  # module.attribute
        ("helper.py", "return 7", "return 8", set()),  # nobody uses it
        ("late.py", "return x", "return -x", {"formula"}),  # imported inside a function
        ("kinds.py", "return 1", "return 2", {"kinds"}),  # all that a table holds
        ("kinds.py", "return 0", "return 3", {"kinds"}),  # its base class
        ("table.py", "'two'", "'three'", {"kinds"}),
        ("sub/__init__.py", "from .thing import Thing", "from .thing import Thing as Thing\nWide = 1", set()),
        ("sub/thing.py", "return deep()", "return -deep()", {"thing"}),  # through the subpackage's head
        ("deep.py", "return 5", "return 6", {"thing"}),  # from ..deep, up from the subpackage
        ("handed.py", "return 1", "return 2", {"handed"}),  # a module as a value: all of it
        ("handed.py", "second = 2", "second = 3", {"handed"}),
        ("star.py", "return 1", "return 2", {"star"}),
        ("effect.py", "'1'", "'2'", {"effect"}),  # what it does as it is imported
        ("plugins.py", "return 1", "return 2", {"plugins"}),  # a decorator of the package's puts it into a table
    ],
)
def test_what_is_used_counts_where_it_is_used(package, file, old, new, scripts):
    assert changed(package, file, old, new) == scripts


def test_a_script_counts_and_its_comments_do_not(package):
    folder, code = package
    script = folder.parent / "scripts" / "formula.py"
    before, text = code("formula"), script.read_text()
    script.write_text(text.replace('"""Doc."""', '"""Other words."""\n# a comment'))
    assert code("formula") == before
    script.write_text(text.replace("params.x", "params.x + 1"))
    assert code("formula") != before


def test_words_of_the_reference_count_and_their_comments_do_not(package):
    folder, code = package
    words = folder.parent / "reference" / "words.yaml"
    before, apart = code("words"), code("formula")
    words.write_text("# a comment\nnames:   ada bay\n")
    assert code("words") == before
    words.write_text("names: ada bay abel\n")
    assert code("words") != before and code("formula") == apart


def test_a_circle_of_imports_ends(package):
    folder, code = package
    (folder / "deep.py").write_text("from .main import formula\n\n\ndef deep():\n    return formula(1)\n")
    assert re.fullmatch(r"[0-9a-f]{12}", code("thing"))


def test_no_such_script(package):
    with pytest.raises(FileNotFoundError, match="no script .*nothing"):
        package[1]("nothing")


# ------------------------------------------------------------------ local variables by number

SCOPES = """
def outer(p, q=1, *rest):
    total = p
    for each in rest:
        total += each
    try:
        found = [total for total in rest]
    except ValueError as error:
        found = error
    def inner(p, total=total):
        nonlocal_free = found
        return lambda each: (p, total, each, nonlocal_free, q)
    with open(p) as file, open(q) as (other, another):
        return inner, file, other, another, f"{total}", (late := total), late
"""


def numbered(text: str) -> str:
    return ast.dump(reading.cleaned(ast.parse(text)))


LOCALS = ["total", "each", "found", "error", "inner", "nonlocal_free", "file", "other", "another", "late"]


@given(st.lists(st.from_regex(r"\A[a-z]{3,6}_\Z"), min_size=len(LOCALS), max_size=len(LOCALS), unique=True))
def test_names_of_local_variables_do_not_count(names):
    renamed = SCOPES
    for old, new in zip(LOCALS, names, strict=True):
        if old not in ("total", "each"):  # the name of a parameter of an inner function too
            renamed = re.sub(rf"\b{old}\b", new, renamed)
    assert numbered(renamed) == numbered(SCOPES)


@given(st.sampled_from(LOCALS), st.sampled_from(LOCALS), st.integers(0, 40))
def test_another_variable_in_one_place_counts(old, new, place):
    """Numbers tell variables apart: who reads another one does something else."""
    places = [match.span() for match in re.finditer(rf"\b{old}\b", SCOPES)]
    start, end = places[place % len(places)]
    other = SCOPES[:start] + new + SCOPES[end:]
    try:
        compile(other, "", "exec")
    except SyntaxError:
        return
    assert (numbered(other) == numbered(SCOPES)) == (old == new)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f():\n    x = 1\n    return locals()", "def f():\n    y = 1\n    return locals()", False),
        ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1", False),
        ("def f():\n    import x\n    x.y", "def f():\n    import y\n    y.y", False),
        ("def f():\n    x = 1\n    class A:\n        x = x", "def f():\n    y = 1\n    class A:\n        y = y", False),
        ("def f():\n    x = 1\n    return x", "def f():\n    y = 1\n    return x", False),  # x is then the module's
        ("def f():\n    x: int = 1", "def f():\n    y = 1", True),
        ("def f():\n    return {x: 1 for x in g}", "def f():\n    return {y: 1 for y in g}", True),
        ("def f(x):\n    return g(x=x)", "def f(y):\n    return g(y=y)", False),
        ("class A:\n    x = 1", "class A:\n    y = 1", False),
    ],
)
def test_names_that_are_more_than_a_local_variable_count(one, other, same):
    assert (numbered(one) == numbered(other)) == same


# ------------------------------------------------------------------ on the package itself


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A copy of the package, its scripts and reference; call it with a change to get the scripts that change."""
    workflow = fingerprint.PACKAGE.parent
    for name in ("attention_distillation", "scripts", "reference"):
        shutil.copytree(workflow / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, folder in (("PACKAGE", "attention_distillation"), ("SCRIPTS", "scripts"), ("REFERENCE", "reference")):
        monkeypatch.setattr(fingerprint, name, tmp_path / folder)

    def hashes():
        fingerprint.forget()
        return {path.stem: fingerprint.code(path.stem) for path in (tmp_path / "scripts").glob("*.py")}

    def changed(file, old, new):
        before, path = hashes(), tmp_path / file
        text = path.read_text("utf-8")
        assert old in text, f"{file} no longer says {old}"
        path.write_text(text.replace(old, new), "utf-8")
        after = hashes()
        return {script for script in before if before[script] != after[script]}

    yield changed
    fingerprint.forget()


PACKAGE = "attention_distillation"
MODELS = {"train_run", "evaluate_run", "embed_corpus", "retrieve_passages"}


@pytest.mark.parametrize(
    ("file", "old", "new", "again", "not_again"),
    [
        (f"{PACKAGE}/settings/schema.py", "self.retriever_learning_rate or self.learning_rate",
         "self.retriever_learning_rate or self.learning_rate / 2", {"train_run"}, {"evaluate_run", "embed_corpus"}),
        (f"{PACKAGE}/jobs/runtime.py", "return torch.bfloat16 if", "return torch.float16 if", MODELS, {"find_gold"}),
        (f"{PACKAGE}/records.py", "def read_questions(path", "def read_questions(route",
         {"train_run", "evaluate_run", "find_gold", "check_prompts"}, {"make_tables", "embed_corpus"}),
        (f"{PACKAGE}/records.py", "def write_dump(path", "def write_dump(route", {"evaluate_run"}, {"train_run"}),
        (f"{PACKAGE}/data/passages.py", "batch: int = 10_000", "batch: int = 10_001",
         {"tokenise_corpus", "find_gold", "pretrain_model"}, {"train_run", "evaluate_run"}),
        (f"{PACKAGE}/training/signals.py", '"sum") / batch', '"mean")', {"train_run"}, {"embed_corpus", "make_tables"}),
        (f"{PACKAGE}/analysis/statistics.py", "np.interp(", "1 * np.interp(", {"make_tables"},
         {"train_run", "evaluate_run"}),
        (f"{PACKAGE}/reporting/figures.py", '"savefig.dpi": 200', '"savefig.dpi": 300', {"draw_figures"},
         {"make_tables", "train_run", "evaluate_run"}),
        ("reference/worlds.yaml", "acorn ", "acorns ", {"make_world_passages", "make_world_questions"}, {"train_run"}),
        ("scripts/train_run.py", "snakemake.threads)", "snakemake.threads + 0)", {"train_run"}, {"evaluate_run"}),
    ],
    ids=["rate_of", "dtype", "read_questions", "write_dump", "iterate_passages", "a loss", "intervals", "a figure",
         "words of a world", "a rule's script"],
)  # fmt: skip
def test_what_code_means_is_followed_to_where_it_is_used(real, file, old, new, again, not_again):
    scripts = real(file, old, new)
    assert again <= scripts and not not_again & scripts, scripts


def test_functions_that_are_left_out_make_no_result():
    """They return None and are called for what they refuse or set; a name that is gone would leave nothing out."""
    for module, name in fingerprint.NO_RESULT:
        (statement,) = fingerprint._module(module).statements[name]
        assert not [node for node in ast.walk(statement.node) if isinstance(node, ast.Return) and node.value], name


def test_the_package_does_nothing_that_names_do_not_tell():
    """Subclasses, modules by their name, code in strings: the fingerprint could not follow them."""
    unseen = re.compile(r"__subclasses__|__init_subclass__|import_module|(?<!\.)\b(eval|exec|globals)\(")
    for path in fingerprint.PACKAGE.rglob("*.py"):
        assert path.stem in ("reading", "fingerprint") or not unseen.search(path.read_text("utf-8")), path


def test_every_rule_with_a_script_names_it():
    """All but the downloads, whose bytes are known by their sha256, and the plan, which is made at every call."""
    rules = Path(fingerprint.__file__).parents[2] / "rules"
    for file in rules.glob("*.smk"):
        for block in re.split(r"^(?=rule |use rule )", file.read_text("utf-8"), flags=re.MULTILINE):
            if (script := re.search(r'"\.\./scripts/(\w+)\.py"', block)) and script[1] not in (
                "download_source",
                "fetch_model",
                "plan_run",
            ):
                assert f'code=code("{script[1]}")' in block, script[1]


def test_one_script_s_fingerprint_takes_no_time():
    """All of them together are read at every start of Snakemake."""
    import time

    fingerprint.forget()
    started = time.process_time()
    for path in fingerprint.SCRIPTS.glob("*.py"):
        fingerprint.code(path.stem)
    assert time.process_time() - started < 5  # 1 second on an idle core
