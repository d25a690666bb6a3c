"""What a retriever's directory says of itself, read without torch; what is not used as its makers meant is refused.

A sentence-transformers directory (``modules.json``) names its modules: how a text's tokens become one vector. A plain
encoder's directory says nothing of that. A retriever with an encoder for questions and one for passages is two
directories, or one that holds ``question/`` and ``passage/``, as checkpoints do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import InputError, read_json
from .weights import require_tokenizer, require_weights

SIDES = ("question", "passage")
MODULES = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
"""The sentence-transformers modules that a retriever may be made of."""
OWN_WEIGHTS = ("Dense", "LayerNorm")
DPR = {"DPRQuestionEncoder": "question_encoder", "DPRContextEncoder": "ctx_encoder"}
"""DPR's two classes, and where each keeps its BERT: CLS pooling, and a projection where the config has one."""
GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "Reader", "ForQuestionAnswering")
HIDDEN = ("d_model", "hidden_size", "dim", "n_embd")


@dataclass(frozen=True)
class EncoderFolder:
    """One encoder's directory.

    Attributes:
        path: the directory.
        transformer: where the transformer's config, weights and tokenizer are: ``path``, or a folder in it.
        modules: class names and settings of the modules, in order; empty for a plain encoder.
        size: length of a vector.
        dpr: one of DPR's own classes.
    """

    path: Path
    transformer: Path
    modules: tuple[tuple[str, dict], ...]
    size: int
    dpr: bool


def folders(place: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """A retriever's directories: one for questions and passages alike, or the questions' and the passages'."""
    if not isinstance(place, str | Path):
        return tuple(map(Path, place))
    inside = tuple(Path(place) / side for side in SIDES)
    return inside if all(folder.is_dir() for folder in inside) else (Path(place),)


def describe(place: str | Path | Sequence[str | Path]) -> tuple[EncoderFolder, ...]:
    """Every encoder of a retriever, checked.

    Raises:
        InputError: what a directory lacks, or asks for that is not to be had here.
    """
    encoders = tuple(map(_described, folders(place)))
    if len({one.size for one in encoders}) > 1:
        sizes = " and ".join(f"{one.path} of {one.size} values" for one in encoders)
        raise InputError(f"a retriever's two encoders make vectors of different lengths, {sizes}; use a matching pair.")
    return encoders


def vector_size(place: str | Path | Sequence[str | Path]) -> int:
    """d_emb, the length of a retriever's vectors."""
    return describe(place)[0].size


def _described(path: Path) -> EncoderFolder:
    if not (path / "modules.json").exists():
        config = _transformer_config(path)
        return EncoderFolder(path, path, (), _plain_size(path, config), _is_dpr(config))
    modules = tuple(_module(path, row) for row in read_json(path / "modules.json"))
    kinds = [kind for kind, _ in modules]
    if kinds[0] != "Transformer" or kinds.count("Transformer") > 1 or kinds[1:2] != ["Pooling"]:
        raise InputError(
            f"{path}/modules.json: its modules are {', '.join(kinds)}; a Transformer, then a Pooling, are needed."
        )
    _refuse_other_uses(path)
    transformer = path / read_json(path / "modules.json")[0]["path"]
    config = _transformer_config(transformer)
    if _is_dpr(config):
        raise InputError(f"{path}: DPR's class within modules.json; give DPR's own directory, without modules.json.")
    return EncoderFolder(path, transformer, modules, _size(path, modules, config), dpr=False)


def _transformer_config(folder: Path) -> dict:
    require_weights(folder)
    require_tokenizer(folder)
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder}: an adapter without its model; merge the two (peft: merge_and_unload) and save.")
    return read_json(folder / "config.json")


def _architecture(config: dict) -> str:
    return (config.get("architectures") or [""])[0]


def _is_dpr(config: dict) -> bool:
    return _architecture(config) in DPR


def _module(path: Path, row: dict) -> tuple[str, dict]:
    """Class name and settings of a module of ``modules.json``."""
    package, _, kind = row["type"].rpartition(".")
    if not package.startswith("sentence_transformers.") or kind not in MODULES:
        raise InputError(
            f"{path}/modules.json: module '{row['type']}' is not used here (code of a model's own is never run); "
            f"a retriever may be made of {', '.join(MODULES)}."
        )
    if kind == "Transformer":
        return kind, _transformer_settings(path / row["path"])
    folder = path / row["path"]
    settings = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    if kind in OWN_WEIGHTS and not (folder / "model.safetensors").exists():
        raise InputError(f"{folder}: no model.safetensors; convert its weights (pickled weights are not read).")
    activation = settings.get("activation_function", "torch.")
    if not activation.startswith("torch."):
        raise InputError(f"{folder}/config.json: activation_function '{activation}' is no class of torch.")
    return kind, settings


def _transformer_settings(folder: Path) -> dict:
    names = sorted(folder.glob("sentence_*_config.json"))
    settings = read_json(names[0]) if names else {}
    texts = set(settings.get("modality_config", {"text": {}}))
    for asks, what in (
        (settings.get("transformer_task", "feature-extraction") != "feature-extraction", "transformer_task"),
        ("message" in texts or "text" not in texts, "modality_config"),
        (settings.get("query_expansion") is not None, "query_expansion"),
    ):
        if asks:
            raise InputError(f"{names[0]}: {what} asks for more than one vector of a plain text; it is not used here.")
    return settings


def _refuse_other_uses(path: Path) -> None:
    place = path / "config_sentence_transformers.json"
    stated = read_json(place) if place.exists() else {}
    if stated.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise InputError(f"{place}: a {stated['model_type']} does not make one vector of a text; give an embedder.")
    if stated.get("similarity_fn_name") not in (None, "dot", "cosine"):
        raise InputError(f"{place}: similarity '{stated['similarity_fn_name']}'; an index searches by dot or cosine.")


# ------------------------------------------------------------------ sizes


def _hidden(folder: Path, config: dict) -> int:
    for name in HIDDEN:
        if config.get(name):
            return int(config[name])
    raise InputError(f"{folder}/config.json: none of {', '.join(HIDDEN)}; its width is not known.")


def _plain_size(folder: Path, config: dict) -> int:
    architecture = _architecture(config)
    if architecture.endswith(GENERATES):
        raise InputError(
            f"{folder}: a {architecture} without modules.json does not say how its tokens become a vector; "
            "give an embedder's directory, as sentence-transformers saves it."
        )
    return (_is_dpr(config) and config.get("projection_dim")) or _hidden(folder, config)


def _size(path: Path, modules: Sequence[tuple[str, dict]], config: dict) -> int:
    size = _hidden(path, config)
    for kind, settings in modules:
        if kind == "Pooling":
            modes = settings.get("pooling_mode")
            many = sum(bool(value) for key, value in settings.items() if key.startswith("pooling_mode_"))
            size *= len(modes) if isinstance(modes, list) else max(1, many)
        elif kind == "Dense":
            size = settings["out_features"]
    place = path / "config_sentence_transformers.json"
    cut = read_json(place).get("truncate_dim") if place.exists() else None
    return min(size, cut or size)
