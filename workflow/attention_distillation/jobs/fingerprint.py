"""A hash of the code that a rule uses: what it does, not how it reads.

Snakemake reruns a job when its script changes, comments included, and never when a module changes that the script
imports. A rule instead puts ``code("train_run")``, its script's name, among its params. From the names in the script
the hash follows every name of the package that is used: functions, classes, constants, ``module.attribute``, imports
inside functions, files of ``workflow/reference``. What nothing uses does not count; neither do comments, docstrings,
layout, annotations, names of local variables and the words of errors and progress bars (module ``reading``).

Where names do not tell what is used, more counts: a class counts whole, a table like ``KINDS`` with all that is in it,
a module that is handed on as a value with all its names, and what a module does as it is imported with each of them.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import yaml

from . import reading

PACKAGE = Path(__file__).parents[1]
SCRIPTS = PACKAGE.parent / "scripts"
REFERENCE = PACKAGE.parent / "reference"
NO_RESULT = {
    *(("jobs.runtime", name) for name in ("start", "start_worker", "torch_threads")),
    *(("jobs.room", name) for name in ("check_tokenising", "check_embedding", "check_training")),
}
"""Functions whose change reruns nothing: they return None and set threads, log and GPUs, or refuse to begin."""


@dataclass(frozen=True)
class Name:
    """A name of a module of the package; without ``name`` the module itself."""

    module: str
    name: str = ""


class Statement:
    """A statement of a module's head, read when it is first used; reading changes its tree."""

    def __init__(self, node: ast.stmt, module: str) -> None:
        self.node, self.module = node, module

    @cached_property
    def read(self) -> tuple[str, list[tuple[Name | str | None, list[str]]], list[str]]:
        """What it does, as text; what it uses: ``(origin, [name, attribute, …])``, without origin where the name is the
        module's own; its words."""
        tree = reading.cleaned(self.node)
        imports = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
        within = {name: origin for node in imports for name, origin in _imported(node, self.module).items()}
        text = ast.dump(reading.without_imports(tree, PACKAGE.name))
        uses = [(within.get(chain[0]), chain) for chain in reading.names(tree)]
        uses += [(origin, [name]) for name, origin in within.items() if name.startswith("*")]
        return text, uses, list(reading.words(tree))


@dataclass
class Module:
    """What a module binds at its head, by name."""

    statements: dict[str, list[Statement]] = field(default_factory=dict)
    imports: dict[str, Name | str] = field(default_factory=dict)
    """Where a name comes from: the package, or in words an import from outside it."""
    stars: list[str] = field(default_factory=list)
    effects: list[Statement] = field(default_factory=list)
    """What it does as it is imported, beside binding names."""
    main: list[Statement] = field(default_factory=list)


@cache
def _path(module: str) -> Path | None:
    """The file of a module or package; None where the package has none of that name."""
    stem = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    for path in (stem.with_suffix(".py") if module else stem / "__init__.py", stem / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(statement: ast.Import | ast.ImportFrom, module: str) -> dict[str, Name | str]:
    """What each name stands for that the statement binds in ``module`` (``*module`` for all of a module)."""
    bound: dict[str, Name | str] = {}
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            root, *rest = alias.name.split(".")
            if root == PACKAGE.name:
                bound[alias.asname or root] = Name(".".join(rest) if alias.asname else "")
            else:
                bound[alias.asname or root] = f"import {alias.name if alias.asname else root}"
        return bound
    parts = (statement.module or "").split(".") if statement.module else []
    if statement.level:
        path = _path(module)
        folder = module.split(".") if module else []
        if path is not None and path.name != "__init__.py":
            folder = folder[:-1]
        parts = folder[: len(folder) - statement.level + 1] + parts
    elif parts[:1] == [PACKAGE.name]:
        parts = parts[1:]
    else:
        where = statement.module
        return {alias.asname or alias.name: f"from {where} import {alias.name}" for alias in statement.names}
    module = ".".join(parts)
    return {
        f"*{module}" if alias.name == "*" else alias.asname or alias.name: Name(module, alias.name.strip("*"))
        for alias in statement.names
    }


def _sorted_out(tree: ast.Module, module: str) -> Module:
    """A module's head, statement by statement."""
    result = Module()
    for statement in filter(reading.does_something, tree.body):
        read = Statement(statement, module)
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name, origin in _imported(statement, module).items():
                if not name.startswith("*"):
                    result.imports[name] = origin
                elif isinstance(origin, Name):
                    result.stars.append(origin.module)
                else:
                    result.effects.append(read)
        elif reading.is_main(statement):
            result.main.append(read)
        else:
            bound = reading.bound_names(statement)
            for name in bound:
                result.statements.setdefault(name, []).append(read)
            own = {node.id for part in getattr(statement, "decorator_list", ()) for node in ast.walk(part)
                   if isinstance(node, ast.Name)}  # fmt: skip
            known = {*result.statements, *(n for n, origin in result.imports.items() if isinstance(origin, Name))}
            if not bound or own & known:  # a decorator of the package's may put what it decorates into a table
                result.effects.append(read)
            if not reading.is_scope(statement):  # what a function imports is looked up there
                for inner in ast.walk(statement):
                    if isinstance(inner, (ast.Import, ast.ImportFrom)):
                        result.imports |= _imported(inner, module)
    return result


@cache
def _module(module: str) -> Module:
    return _sorted_out(reading.parsed(_path(module)), module)


@cache
def _data(name: str) -> str | None:
    """A file of ``workflow/reference``, comments of YAML left out; None where there is none of that name."""
    path = REFERENCE / name
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    return repr(yaml.safe_load(text)) if path.suffix == ".yaml" else text


class _Use:
    """Everything that is used, from some statements on."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    def statements(self, module: str, name: str, statements: list[Statement]) -> None:
        """Count statements, and all that they name."""
        if (module, name) in self.texts:
            return
        self.texts[module, name] = "\n".join(statement.read[0] for statement in statements)
        for statement in statements:
            _, uses, words = statement.read
            for origin, (first, *attributes) in uses:
                if origin is None:
                    self.name(statement.module, first, attributes)
                else:
                    self.origin(origin, attributes)
            for word in words:
                self.data(word)

    def name(self, module: str, name: str, attributes: list[str]) -> bool:
        """Count what ``name.attribute…`` means in ``module``; False where it means nothing there."""
        head = _module(module)
        if (module, name) in NO_RESULT:
            return True
        if name in head.statements:
            self.statements(module, name, head.statements[name])
            self.effects(module)
        elif name in head.imports:
            self.origin(head.imports[name], attributes)
            self.effects(module)
        elif name == "__name__" and head.main:  # 'python -m' of this module
            self.statements(module, "__main__", head.main)
        elif name in ("globals", "__name__", "__file__", "__dict__"):
            if name in ("globals", "__dict__"):
                self.whole(module)
        else:
            return any(self.name(star, name, attributes) for star in head.stars)
        return True

    def origin(self, origin: Name | str, attributes: list[str]) -> None:
        """Count what an imported name stands for, and of a module only what is taken from it."""
        if isinstance(origin, str):
            self.texts[("", origin)] = origin
            return
        if origin.name:
            known = _path(origin.module) is not None and self.name(origin.module, origin.name, attributes)
            submodule = f"{origin.module}.{origin.name}".strip(".")
            if known or _path(submodule) is None:
                return
            origin = Name(submodule)
        if _path(origin.module) is None:
            return
        if attributes:
            self.origin(Name(origin.module, attributes[0]), attributes[1:])
        else:
            self.whole(origin.module)

    def whole(self, module: str) -> None:
        """Count all names of a module: it is handed on as a value."""
        for name in _module(module).statements:
            self.name(module, name, [])
        self.effects(module)

    def effects(self, module: str) -> None:
        """Count what a module and the packages that it lies in do as they are imported."""
        parts = module.split(".") if module else []
        for length in range(len(parts) + 1):
            place = ".".join(parts[:length])
            if _path(place) is not None and _module(place).effects:
                self.statements(place, "import", _module(place).effects)

    def data(self, word: str) -> None:
        """Count a file of ``workflow/reference`` that is named; of YAML what it says."""
        if (text := _data(word)) is not None:
            self.texts["reference", word] = text


@cache
def code(script: str) -> str:
    """Hash of a script of ``workflow/scripts`` and of all that it uses of the package.

    Raises:
        FileNotFoundError: there is no such script.
    """
    used = parts(script)
    return hashlib.sha256(repr(sorted(used.items())).encode()).hexdigest()[:12]


def parts(script: str) -> dict[tuple[str, str], str]:
    """What the hash is made of: ``(module, name)`` and what stands there."""
    path = SCRIPTS / f"{script}.py"
    if not path.is_file():
        raise FileNotFoundError(f"no script {path}")
    use = _Use()
    use.statements("script", script, [Statement(reading.parsed(path), "")])
    return use.texts


def forget() -> None:
    """Read every file again at the next call."""
    for kept in (code, _module, _data, _path):
        kept.cache_clear()
