"""Python code without what changes no result: the reading behind ``fingerprint``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
_READS_NAMES = {"locals", "vars", "dir", "eval", "exec"}
"""What looks at names of local variables: they stay as they are where one of these is called."""


def parsed(path: Path) -> ast.Module:
    """The module in a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_scope(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def is_main(statement: ast.stmt) -> bool:
    """``if __name__ == "__main__":``."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def bound_names(statement: ast.stmt) -> set[str]:
    """Names that a statement at a module's head binds, in the branches of an ``if`` or ``try`` too."""
    if is_scope(statement):
        return {statement.name}
    bound: set[str] = set()
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if is_scope(node):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        todo += ast.iter_child_nodes(node)
    return bound


def names(node: ast.AST) -> Iterator[list[str]]:
    """``[name, attribute, …]`` of each name and of the attributes that are taken from it."""
    todo: list[ast.AST] = [node]
    while todo:
        here = todo.pop()
        chain: list[str] = []
        base = here
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            yield [base.id, *chain]
        elif chain:
            todo.append(base)
        else:
            todo += ast.iter_child_nodes(here)


def words(node: ast.AST) -> Iterator[str]:
    """Its strings; one with a line break, a slash or no dot names no file."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            name = inner.value.rpartition("/")[2]
            if "." in name and name.replace(".", "").replace("_", "").replace("-", "").isalnum():
                yield name


def without_imports(node: ast.AST, package: str) -> ast.AST:
    """Without the imports from ``package``: what they bring is counted where it is used."""
    return _NoImports(package).visit(node)


def does_something(statement: ast.AST) -> bool:
    """No docstring, and no import for types alone."""
    alone = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    typed = isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")
    return not (alone or typed)


def cleaned(node: ast.stmt | ast.Module) -> ast.AST:
    """Without docstrings, annotations of functions and words of errors; local variables numbered. Changes ``node``."""
    return _Numbering().visit(_Cleaning().visit(node))


class _NoImports(ast.NodeTransformer):
    def __init__(self, package: str) -> None:
        self.package = package

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return ast.Pass() if all(alias.name.split(".")[0] == self.package for alias in node.names) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass() if node.level or node.module.split(".")[0] == self.package else node


class _Cleaning(ast.NodeTransformer):
    """Docstrings, annotations and words for people go."""

    in_function = False

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                kept = [line for line in body if does_something(line)]
                body[:] = kept or ([ast.Pass()] if body else [])
        return super().generic_visit(node)

    def _function(self, node: Function) -> ast.AST:
        node.returns = None
        outer, self.in_function = self.in_function, True
        self.generic_visit(node)
        self.in_function = outer
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer, self.in_function = self.in_function, False  # pydantic and dataclasses read what stands in its body
        self.generic_visit(node)
        self.in_function = outer
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if not self.in_function:
            return node
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _silenced(self.generic_visit(node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = ".".join(next(names(node.func), ()))
        if called == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        if called == "tqdm":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("desc", "unit")]
        return _silenced(node) if called == "sys.stderr.write" else node


def _silenced(node: ast.AST) -> ast.AST:
    for inner in ast.walk(node):
        if isinstance(inner, ast.JoinedStr):
            inner.values = [value for value in inner.values if isinstance(value, ast.FormattedValue)]
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            inner.value = ""
    return node


class _Numbering(ast.NodeTransformer):
    """Local variables of functions by number, in the order in which they come; parameters are called by name."""

    def __init__(self, outer: dict[str, str] | None = None, depth: int = 0) -> None:
        self.numbers, self.depth = outer or {}, depth

    def _function(self, node: Function | ast.Lambda) -> ast.AST:
        if isinstance(node, ast.Lambda):
            inside: list[ast.AST] = [node.body]
        else:
            inside = node.body
            node.name = self.numbers.get(node.name, node.name)
            node.decorator_list = [self.visit(part) for part in node.decorator_list]
        node.args.defaults = [self.visit(part) for part in node.args.defaults]
        node.args.kw_defaults = [part and self.visit(part) for part in node.args.kw_defaults]
        every = node.args
        given = {arg.arg for arg in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg)
                 if arg}  # fmt: skip
        kept = given | _left_as_they_are(inside)
        own = [name for name in dict.fromkeys(_stored(inside)) if name not in kept]
        numbers = {name: number for name, number in self.numbers.items() if name not in given}
        numbers |= {name: f"{self.depth}.{place}" for place, name in enumerate(own)}
        within = _Numbering(numbers, self.depth + 1)
        if isinstance(node, ast.Lambda):
            node.body = within.visit(node.body)
        else:
            node.body = [within.visit(line) for line in node.body]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.numbers.get(node.id, node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self.numbers.get(node.name, node.name)
        return self.generic_visit(node)


def _stored(body: list[ast.AST]) -> Iterator[str]:
    """Names that a function binds, in order; what its inner functions bind is theirs."""
    for node in body:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif not isinstance(node, (ast.Lambda, ast.ClassDef)):
            yield from _stored(list(ast.iter_child_nodes(node)))


def _left_as_they_are(body: list[ast.AST]) -> set[str]:
    """Names that are more than a variable of this function: global, nonlocal, imported, matched, seen by a class."""
    kept: set[str] = set()
    for node in (inner for line in body for inner in ast.walk(line)):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            kept.update(node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            kept.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            kept.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            kept.add(node.rest)
        elif isinstance(node, ast.ClassDef):
            kept.add(node.name)
            kept.update(inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))
        elif isinstance(node, ast.Name) and node.id in _READS_NAMES:
            kept.update(inner.id for line in body for inner in ast.walk(line) if isinstance(inner, ast.Name))
    return kept
