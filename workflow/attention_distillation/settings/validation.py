"""Strict pydantic models, and their errors in words for users: which key, what is wrong, what was probably meant."""

from __future__ import annotations

import difflib

from pydantic import BaseModel, ConfigDict, ValidationError

from ..files import InputError


class Strict(BaseModel):
    """A mapping whose unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def did_you_mean(word: str, known) -> str:
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(map(str, known))}"


def _model_at(model: type[BaseModel], path: tuple) -> type[BaseModel] | None:
    """The model that holds the key at ``path``, as far as annotations tell."""
    for step in path:
        if isinstance(step, int):
            continue
        info = model.model_fields.get(step)
        if info is None:
            continue  # a key of a dict[str, Model]: the model stays
        nested, stack = None, [info.annotation]
        while stack and nested is None:
            kind = stack.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                nested = kind
            stack.extend(getattr(kind, "__args__", ()))
        if nested is None:
            return None
        model = nested
    return model


def lines(error: ValidationError, model: type[BaseModel]) -> str:
    messages = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            holder = _model_at(model, fault["loc"][:-1])
            message = f"unknown key{did_you_mean(fault['loc'][-1], holder.model_fields) if holder else ''}"
        elif fault["type"] == "missing":
            message = "missing; give it"
        elif fault["type"] != "value_error":
            message = f"{message} (it is {fault['input']!r})"
        messages.append(f"{key}: {message}" if key else message)
    return "\n  ".join(messages)


def validated(model: type[BaseModel], value: object, where: str):
    if not isinstance(value, dict):
        raise InputError(f"{where}: a mapping of keys to values is needed.")
    try:
        return model(**value)
    except ValidationError as error:
        raise InputError(f"{where}:\n  {lines(error, model)}") from None
