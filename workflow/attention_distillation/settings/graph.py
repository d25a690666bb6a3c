"""Which experiment starts from which: the graph that the rows ``reader:`` and ``retriever:`` of a scale make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .schema import Experiment

UNTRAINED = ("initial", "random")
"""What an experiment may start from beside another experiment."""
Part = Literal["reader", "retriever"]


def origin(experiments: Mapping[str, Experiment], name: str, part: Part) -> str:
    """The experiment whose training made this one's reader or retriever; 'initial' or 'random' where none did.

    Raises:
        ValueError: the experiment starts from itself.
    """
    chain = [name]
    while chain[-1] in experiments and part not in experiments[chain[-1]].train:
        chain.append(getattr(experiments[chain[-1]], part))
        if len(chain) > len(experiments) + 1:
            raise ValueError(f"experiments.{name}.{part}: starts from itself ({' ← '.join(chain[:4])} …)")
    return chain[-1]


def with_origins(experiments: Mapping[str, Experiment], names: Iterable[str]) -> list[str]:
    """These experiments and those whose readers and retrievers they start from, in the order of ``experiments``."""
    todo, needed = list(names), set()
    while todo:
        name = todo.pop()
        if name not in needed and name not in UNTRAINED:
            needed.add(name)
            row = experiments[name]
            todo += [origin(experiments, getattr(row, part), part) for part in ("reader", "retriever")]
    return [name for name in experiments if name in needed]
