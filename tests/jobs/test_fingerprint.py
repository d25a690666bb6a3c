"""The fingerprint of code: blind to how it reads, sensitive to what it does, in every module that is imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from attention_distillation.jobs import fingerprint

MAIN = '''"""A module."""

from . import helper
from .sub import Thing

LIMIT = 3
"""What LIMIT means."""


def formula(x):
    """Doc."""
    # why
    return helper.twice(x) + LIMIT
'''
FILES = {
    "__init__.py": '"""Package."""\n',
    "main.py": MAIN,
    "helper.py": "from .records import read\n\n\ndef twice(x):\n    from .late import late\n    return 2 * late(x)\n",
    "late.py": "def late(x):\n    return x\n",
    "records.py": "def read():\n    return 1\n",
    "sub/__init__.py": "from .thing import Thing\n",
    "sub/thing.py": "from ..deep import deep\n\n\nclass Thing:\n    '''Doc.'''\n",
    "deep.py": "def deep():\n    return 5\n",
    "alone.py": "x = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few modules in place of the real one; call it to get a module's hash anew."""
    folder = tmp_path / "package"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "words.yaml").write_text("names: ada bay\n")
    monkeypatch.setattr(fingerprint, "PACKAGE", folder)
    monkeypatch.setattr(fingerprint, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(fingerprint, "LEFT_OUT", {"records", "__init__"})

    def code(*modules):
        fingerprint.code.cache_clear()
        return fingerprint.code(*modules)

    yield folder, code
    fingerprint.code.cache_clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# why", "# why not\n\n    # or so"),
        ('"""Doc."""', '"""Another\n    docstring."""'),
        ('    """Doc."""\n', ""),
        ('"""A module."""', ""),
        ('"""What LIMIT means."""', '"""What it limits."""'),
        ("return helper.twice(x) + LIMIT", "return (\n        helper.twice(x)\n        + LIMIT\n    )"),
        ("LIMIT = 3", "LIMIT = 0x3"),
    ],
)
def test_how_it_reads_does_not_count(package, old, new):
    folder, code = package
    before = code("main")
    assert old in MAIN
    (folder / "main.py").write_text(MAIN.replace(old, new))
    assert code("main") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("+ LIMIT", "- LIMIT"), ("LIMIT = 3", "LIMIT = 4"), ("def formula(x)", "def formula(x, y=1)"), ("+ LIMIT", "")],
)
def test_a_changed_formula_counts(package, old, new):
    folder, code = package
    before = code("main")
    (folder / "main.py").write_text(MAIN.replace(old, new))
    assert code("main") != before


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("helper.py", True),  # from . import helper
        ("late.py", True),  # imported inside a function of an imported module
        ("sub/__init__.py", True),  # from .sub import Thing
        ("sub/thing.py", True),  # imported by the subpackage's head
        ("deep.py", True),  # from ..deep, up from the subpackage
        ("records.py", False),  # left out by name
        ("alone.py", False),  # nobody imports it
        ("__init__.py", False),
    ],
)
def test_imports_are_followed(package, name, counts):
    folder, code = package
    before = code("main")
    (folder / name).write_text(FILES[name] + "\nADDED = 7\n")
    assert (code("main") != before) == counts


@pytest.mark.parametrize("asked", ["sub", "sub.__init__"])
def test_a_subpackage_asked_for_by_name_is_followed_too(package, asked):
    folder, code = package
    before = code(asked)
    (folder / "deep.py").write_text("def deep():\n    return 6\n")
    assert code(asked) != before


def test_words_that_a_module_reads_count_and_their_comments_do_not(package):
    folder, code = package
    (folder / "main.py").write_text(MAIN + 'WORDS = open("words.yaml")\n')
    words = folder.parent / "reference" / "words.yaml"
    before, apart = code("main"), code("alone")
    words.write_text("# a comment\nnames:   ada bay\n")
    assert code("main") == before
    words.write_text("names: ada bay abel\n")
    assert code("main") != before and code("alone") == apart


def test_which_module_is_asked_for_counts(package):
    _, code = package
    assert len({code("main"), code("helper"), code("main", "alone"), code("alone")}) == 4
    assert code("main", "alone") == code("alone", "main")


def test_a_circle_of_imports_ends(package):
    folder, code = package
    (folder / "deep.py").write_text("from .main import formula\n")
    assert re.fullmatch(r"[0-9a-f]{12}", code("main"))


def test_no_such_module(package):
    with pytest.raises(FileNotFoundError, match="no module nothing in"):
        package[1]("nothing")


# ------------------------------------------------------------------ on the package itself


def test_what_training_depends_on():
    """Traced on the real package: a change of any of these must restart training, and of tables must not."""
    tree, seen = ["training.loop"], set()
    while tree:
        module = tree.pop()
        if module not in seen:
            seen.add(module)
            tree += fingerprint._imports(fingerprint._stripped(fingerprint._file(module)), module)
    assert {
        "training.signals",
        "models.retriever",
        "retrieval.index",
        "training.context",
        "metrics",
        "models.attention",
    } <= seen
    assert {f"models.readers.{name}" for name in ("__init__", "decoder_only", "fusion_in_decoder", "prompt")} <= seen
    assert not {"reporting.tables", "data.miniature", "models.pretraining", "analysis.token_analysis"} & seen


def test_every_rule_names_modules_that_exist():
    rules = Path(fingerprint.__file__).parents[2] / "rules"
    asked = [
        ast.literal_eval(f"({arguments},)")
        for file in rules.glob("*.smk")
        for arguments in re.findall(r"\bcode\(((?:\"[\w.]+\"(?:, )?)+)\)", file.read_text("utf-8"))
    ]
    assert len(asked) > 10
    assert all(len(fingerprint.code(*modules)) == 12 for modules in asked)
