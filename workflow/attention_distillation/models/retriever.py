"""A retriever: texts to token rows, token rows to vectors, as the makers of its directory meant it.

sentence-transformers holds what a directory says: pooling, normalisation, dense layers, prompts, similarity, lengths. A
plain encoder's directory says nothing, and is read as Contriever's: mean pooling over the tokens that are no padding,
no normalisation, s(n, Q) = dot product.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..files import InputError
from . import encoder_folder
from .encoder import TASKS, Encoder
from .encoder_folder import DPR, SIDES, EncoderFolder
from .weights import load_model, require_whole

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ..settings import Retrieval

PLAIN_TOKENS = {"question": 40, "passage": 200}
"""How much of a text an encoder reads where neither its directory nor the config says so [Atlas]."""
COSINE_SCALE = 20.0
"""What cosines are multiplied with in eq. 2: the losses of sentence-transformers do so [their default]."""
THETA = {"dot": 0.01, "cosine": 1.0}
"""θ where the config leaves it to the retriever: Atlas's of Contriever; the scale that a cosine is trained with."""
PASSAGE_PROMPTS = ("document", "passage", "corpus")
POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken"}


class Retriever(nn.Module):
    """The encoder of questions and that of passages: one, or two with weights of their own.

    Args:
        models: one for both, or the questions' and the passages'.
        separator: between a passage's title and text.
    """

    def __init__(self, models: Sequence[SentenceTransformer], separator: str = " ") -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.question = Encoder(models[0], "question", separator)
        self.passage = Encoder(models[-1], "passage", separator)

    @classmethod
    def load(cls, place: str | Path | Sequence[str | Path], retrieval: Retrieval | None = None) -> Retriever:
        """Load from one directory or from two (:func:`encoder_folder.folders`).

        Args:
            place: the directory or directories.
            retrieval: prompts, similarity, lengths and pooling that the config states; absent: as the directory says.

        Raises:
            InputError: what the directory asks for is not to be had here, or not all weights are there.
        """
        described = encoder_folder.describe(place)
        plain_pair = len(described) > 1 and not any(one.modules or one.dpr for one in described)
        if plain_pair and not (retrieval and retrieval.pooling):
            raise InputError(
                f"{described[0].path}: a pair of encoders that does not say how tokens become a vector; set "
                "retrieval.pooling: cls (DRAGON's), mean or last."
            )
        models = [_load(one, retrieval) for one in described]
        stated = retrieval.title_separator if retrieval else None
        separator = f" {models[-1].tokenizer.sep_token} " if described[-1].dpr else " "
        return cls(models, separator if stated is None else stated)

    @classmethod
    def of(cls, model, tokenizer, retrieval: Retrieval | None = None) -> Retriever:
        """A copy of an encoder in memory, read as a plain directory is."""
        with tempfile.TemporaryDirectory() as folder:
            _write(folder, model, tokenizer)
            return cls.load(folder, retrieval)

    def save(self, folder: str | Path) -> None:
        """Write sentence-transformers directories with safetensors weights; two go to ``question`` and ``passage``."""
        for model, side in zip(self.models, SIDES, strict=False):
            model.save(str(Path(folder) / side if len(self.models) > 1 else folder), create_model_card=False)

    @property
    def size(self) -> int:
        """d_emb, the length of a vector."""
        return self.passage.size

    @property
    def similarity(self) -> str:
        """``dot``, or ``cosine``: vectors of length 1."""
        return "cosine" if self.passage.cosine else "dot"

    def temperature(self, theta: float | None) -> float:
        """What scores are divided by in eq. 2: √d · θ, of cosines θ / 20; without θ the retriever's own."""
        theta = THETA[self.similarity] if theta is None else theta
        return theta / COSINE_SCALE if self.passage.cosine else math.sqrt(self.size) * theta

    def facts(self) -> dict:
        """How texts become vectors and scores, for provenance."""
        modules = [type(module).__name__ for module in self.passage.model]
        modules[0] = type(self.passage.model[0].model).__name__
        modules[1] = f"Pooling {self.passage.model[1].pooling_mode}"
        facts = {"encoders": len(self.models), "modules": modules, "similarity": self.similarity, "size": self.size}
        for side in (self.question, self.passage):
            facts |= {f"{side.side}_prompt": side.prompt, f"{side.side}_max_tokens": side.max_tokens}
        return facts | {"title_separator": self.passage.separator, "temperature_at_theta_1": self.temperature(1.0)}

    def difference(self, texts: Sequence[str]) -> float:
        """How far vectors lie from those of sentence-transformers' own ``encode_query`` and ``encode_document``.

        The largest difference of a value, as a share of the vectors' mean length.
        """
        worst = 0.0
        for side in (self.question, self.passage):
            encode = side.model.encode_query if side is self.question else side.model.encode_document
            theirs = encode(list(texts), normalize_embeddings=side.cosine, show_progress_bar=False)
            apart = np.abs(side.embed(side.tokenise(texts)) - theirs).max()
            worst = max(worst, float(apart / np.linalg.norm(theirs, axis=1).mean()))
        return worst

    @torch.no_grad()
    def randomise(self, seed: int) -> None:
        """Draw every weight anew, as the classes draw it."""
        torch.manual_seed(seed)
        for model in self.models:
            transformer, *rest = model
            fresh = type(transformer.model)(transformer.model.config, **_no_pooler(type(transformer.model)))
            transformer.model.load_state_dict(fresh.state_dict())
            for module in (part for piece in rest for part in piece.modules() if hasattr(part, "reset_parameters")):
                module.reset_parameters()


# ------------------------------------------------------------------ loading


def _no_pooler(model_class) -> dict:
    """What keeps a class from making a layer that no vector passes through."""
    takes = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def _load(described: EncoderFolder, retrieval: Retrieval | None) -> SentenceTransformer:
    """One directory, with what the config says laid over it."""
    if described.dpr:
        model = _dpr(described.path)
    else:
        options = _no_pooler(_known_class(described.transformer, plain=not described.modules))
        model = _by_modules(described, options) if described.modules else _plain(described.path, options)
        require_whole(type(model[0].model), described.transformer, **options)
    if not model.tokenizer.is_fast:
        raise InputError(f"{described.path}: no fast tokenizer (tokenizer.json); save one beside the weights.")
    _lay_over(model, described, retrieval)
    return model.eval()


def _known_class(folder: Path, *, plain: bool):
    """The class that transformers itself has for a config.

    Raises:
        InputError: it has none, and code of the model's own is never run; or a plain directory is a decoder's.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model_class = AutoModel._model_mapping[type(config)]
    except (KeyError, ValueError) as error:
        kind = encoder_folder.read_json(folder / "config.json").get("model_type")
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{folder}: transformers has no class for its model_type '{kind}', and code of a model's own is never run "
            f"({reason}); give another embedder."
        ) from None
    kind = config.model_type
    if plain and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise InputError(
            f"{folder}: a decoder's directory without modules.json does not say how its tokens become a vector; give "
            "an embedder's, as sentence-transformers saves it."
        )
    return model_class


LOCAL = {"local_files_only": True, "trust_remote_code": False}


def _model_options(options: dict) -> dict:
    return {**LOCAL, "use_safetensors": True, "dtype": torch.float32, **options}


def _by_modules(described: EncoderFolder, options: dict) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(described.path), device="cpu", model_kwargs=_model_options(options), **LOCAL,
    )  # fmt: skip
    normalises = any(kind == "Normalize" for kind, _ in described.modules)
    if normalises:
        model.similarity_fn_name = "cosine"  # the dot product of such vectors is it
    for name in PASSAGE_PROMPTS:
        model.prompts["document"] = model.prompts["document"] or model.prompts.get(name, "")
    return model


def _plain(folder: Path, options: dict, pooling: str = "mean") -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(
        str(folder), model_kwargs=_model_options(options), processor_kwargs=dict(LOCAL), config_kwargs=dict(LOCAL),
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )  # fmt: skip
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling)]
    return SentenceTransformer(modules=modules, device="cpu", local_files_only=True, similarity_fn_name="dot")


def _write(folder: str, model, tokenizer) -> None:
    """A plain directory; among processes that train together ``save_pretrained`` writes in the first one alone."""
    from safetensors.torch import save_model

    model.config.to_json_file(Path(folder) / "config.json")
    save_model(model, str(Path(folder) / "model.safetensors"), metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def _dpr(folder: Path) -> SentenceTransformer:
    """DPR's own class as the BERT within it, CLS pooling and, where there is one, its projection."""
    import transformers
    from sentence_transformers.sentence_transformer.modules import Dense

    name = encoder_folder.read_json(folder / "config.json")["architectures"][0]
    inner = getattr(load_model(getattr(transformers, name), folder), DPR[name])
    config = transformers.BertConfig.from_dict(inner.bert_model.config.to_dict())
    bert = transformers.BertModel(config, add_pooling_layer=False)
    bert.load_state_dict(inner.bert_model.state_dict())
    with tempfile.TemporaryDirectory() as place:
        _write(place, bert, transformers.AutoTokenizer.from_pretrained(folder, **LOCAL))
        model = _plain(Path(place), {"add_pooling_layer": False}, "cls")
    if inner.projection_dim > 0:
        linear = inner.encode_proj
        model.append(Dense(linear.in_features, linear.out_features, activation_function=nn.Identity(),
                           init_weight=linear.weight.data, init_bias=linear.bias.data))  # fmt: skip
    return model


def _lay_over(model: SentenceTransformer, described: EncoderFolder, retrieval: Retrieval | None) -> None:
    """What the config says of prompts, similarity, lengths and pooling; and lengths that nobody states."""
    stated = retrieval.model_dump() if retrieval else {}
    if (pooling := stated.get("pooling")) and POOLING[pooling] != model[1].pooling_mode:
        if described.modules or described.dpr:
            raise InputError(
                f"retrieval.pooling: {pooling}, and {described.path} says {model[1].pooling_mode}; drop the key."
            )
        model[1].pooling_mode = POOLING[pooling]
    if (similarity := stated.get("similarity")) and similarity != model.similarity_fn_name:
        if type(model[-1]).__name__ == "Normalize":
            raise InputError(f"retrieval.similarity: {similarity}, and {described.path} makes vectors of length 1.")
        model.similarity_fn_name = similarity
    longest = _positions(model[0].model)
    for side, task in TASKS.items():
        if (prompt := stated.get(f"{side}_prompt")) is not None:
            model.prompts[task] = prompt
        limit = stated.get(f"{side}_max_tokens")
        if limit and limit > longest:
            raise InputError(
                f"retrieval.{side}_max_tokens: {limit} tokens, and {described.path} has {longest} positions; lower it."
            )
        if not limit and not described.modules:
            limit = min(PLAIN_TOKENS[side], longest)
        if limit:
            setattr(model[0], f"{task}_length", limit)


def _positions(transformer: nn.Module) -> float:
    """The most tokens that learned positions allow; RoBERTa's begin after its padding token's."""
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return math.inf
