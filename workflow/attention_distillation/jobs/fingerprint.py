"""A hash of what code does, not of how it reads: comments, docstrings and layout leave it as it was.

Snakemake reruns a job when its script changes, but not when a module changes that the script imports. A rule puts
``code("training")`` among its params: a changed formula then reruns what depends on it, a comment does not.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parents[1]
REFERENCE = PACKAGE.parent / "reference"
LEFT_OUT = {
    *("files", "records", "provenance", "__init__", "data.passages"),
    *(f"settings.{name}" for name in ("__init__", "schema", "graph", "loading", "validation")),
    *(f"jobs.{name}" for name in ("__init__", "runtime", "fingerprint", "room", "gpus")),
}
"""Settings reach a rule as params of their own; formats and logging change no number."""


def _file(module: str) -> Path | None:
    path = PACKAGE / (module.replace(".", "/") + ".py")
    return path if path.exists() else None


def _stripped(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        for field, empty in (("body", [ast.Pass()]), ("orelse", []), ("finalbody", [])):
            body = getattr(node, field, None)
            if isinstance(body, list):  # the string beneath a constant explains it and does nothing either
                body[:] = [line for line in body if not _does_nothing(line)] or (empty if body else [])
    return tree


def _does_nothing(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _data(tree: ast.Module) -> list:
    """Contents of the YAML files of ``workflow/reference`` that a module names: words are code too."""
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return [yaml.safe_load(path.read_text("utf-8")) for path in sorted(REFERENCE.glob("*.yaml")) if path.name in names]


def _imports(tree: ast.Module, module: str) -> set[str]:
    """Modules of this package that a module imports, at its head or inside a function."""
    folder = module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - (node.level - 1)] if node.level > 1 else folder
            stem = [*base, *(node.module.split(".") if node.module else [])]
            candidates = [stem, *([*stem, alias.name] for alias in node.names)]
            for parts in candidates:
                name = ".".join(parts)
                if (PACKAGE.joinpath(*parts) / "__init__.py").exists() and parts:
                    name = ".".join([*parts, "__init__"])
                if name and _file(name):
                    found.add(name)
    return found


@cache
def code(*modules: str) -> str:
    """Hash of these modules of the package and of all that they import from it.

    Raises:
        FileNotFoundError: there is no such module.
    """
    todo, seen = list(modules), {}
    while todo:
        module = todo.pop()
        if (PACKAGE / module.replace(".", "/")).is_dir():
            module += ".__init__"
        if module in seen or module in LEFT_OUT:
            continue
        path = _file(module)
        if path is None:
            raise FileNotFoundError(f"no module {module} in {PACKAGE}")
        tree = _stripped(path)
        seen[module] = f"{ast.dump(tree)}{_data(tree)}"
        todo += _imports(tree, module)
    return hashlib.sha256("".join(f"{name}{seen[name]}" for name in sorted(seen)).encode()).hexdigest()[:12]
