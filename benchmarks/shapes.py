"""What the benchmarks run: models of the paper's shapes with random weights, and text of the paper's lengths.

No checkpoint and no corpus is needed. ``TRUE`` are the configurations of Falcon-RW-1B, T5-large (lm-adapt) and
Contriever; ``TOY`` is the same at a size for tests on a CPU. Passages are words drawn at random, long enough that every
prompt fills its 128 tokens: nothing about quality can be read off, and speed is that of the longest passages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from attention_distillation import settings
from attention_distillation.data.passages import Passages, write_passages
from attention_distillation.models.readers import KINDS, Reader
from attention_distillation.models.retriever import Retriever
from attention_distillation.records import Passage, Question
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus
from attention_distillation.training.context import Material
from attention_distillation.training.loop import Trainer

FALCON = {
    "alibi": True, "bias": True, "multi_query": False, "parallel_attn": False, "new_decoder_architecture": False,
    "hidden_dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
T5 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def published(model: str) -> dict:
    """Keys of a hub model's transformers configuration, from the table that plans are made with."""
    rows = yaml.safe_load((settings.WORKFLOW / "reference" / "models.yaml").read_text(encoding="utf-8"))
    return {
        key: value for key, value in rows[model].items() if key not in ("model_type", "parameters", "download_bytes")
    }


@dataclass(frozen=True)
class Shape:
    """Sizes of models and text; ``falcon``, ``t5`` and ``bert`` are keys of their transformers configurations.

    ``ragged``: passages of 4 words up to ``passage_words`` and answers of 1 to 4, so that there is padding everywhere.
    """

    falcon: dict
    t5: dict
    bert: dict
    passage_words: int
    ragged: bool = False
    passages: int = 4096
    questions: int = 256
    retrieval: dict = field(default_factory=dict)
    prompt: dict = field(default_factory=dict)


TRUE = Shape(
    falcon=published("tiiuae/falcon-rw-1b"),
    t5=published("google/t5-large-lm-adapt"),
    bert=published("facebook/contriever"),
    passage_words=140,
    retrieval={"k": 5, "passage_max_tokens": 200, "question_max_tokens": 40, "dtype": "float16",
               "batch_tokens": 131072},
    prompt={"passage_max_tokens": 128, "answer_max_tokens": 32},
)  # fmt: skip
TOY = Shape(
    falcon={"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    t5={"vocab_size": 200, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2,
        "num_heads": 4},
    bert={"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 64},
    passage_words=20, passages=48, questions=12,
    retrieval={"k": 3, "passage_max_tokens": 30, "question_max_tokens": 16, "batch_tokens": 600},
    prompt={"passage_max_tokens": 24, "answer_max_tokens": 6},
)  # fmt: skip


def without_dropout(shape: Shape) -> Shape:
    """The same shape for comparisons of one device with another, which draw dropout each in its own way."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return replace(shape, t5={**shape.t5, "dropout_rate": 0.0}, bert={**shape.bert, **off})


# ------------------------------------------------------------------ models


def make_tokenizer(vocabulary: int, *, surround: bool = False):
    """A fast tokenizer of exactly ``vocabulary`` words; ``surround`` puts [CLS] and [SEP] around, as BERT's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "</s>", "[CLS]", "[SEP]", "question", "title", "context", "answer", ":", "\n"]
    names += [f"w{number}" for number in range(vocabulary - len(names))]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    split = [("\n", "isolated"), (" ", "removed"), (":", "isolated")]
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(*rule) for rule in split])
    if surround:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", bos_token="</s>"
    )


def make_reader(shape: Shape, architecture: str, device: str = "cpu") -> Reader:
    """A reader of the true class with random weights, made on ``device``."""
    from transformers import FalconConfig, FalconForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    ends = {"pad_token_id": 0, "eos_token_id": 2, "attn_implementation": "sdpa"}
    with torch.device(device):
        if architecture == "decoder_only":
            model = FalconForCausalLM(FalconConfig(**FALCON, **shape.falcon, bos_token_id=2, **ends))
        else:
            model = T5ForConditionalGeneration(T5Config(**{**T5, **shape.t5}, decoder_start_token_id=0, **ends))
            # transformers 5 makes every fresh T5 a tied one; the checkpoint holds a head of its own and stays untied
            model.lm_head = torch.nn.Linear(model.config.d_model, model.config.vocab_size, bias=False)
    return KINDS[architecture](model, make_tokenizer(model.config.vocab_size), **shape.prompt)


def make_bert(shape: Shape, device: str = "cpu"):
    """A BERT encoder with random weights, made on ``device``."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    with torch.device(device):
        config = BertConfig(**shape.bert, pad_token_id=0, attn_implementation="sdpa")
        return BertModel(config, add_pooling_layer=False)


def make_retriever(shape: Shape, device: str = "cpu") -> Retriever:
    """That encoder as a retriever reads it."""
    model = make_bert(shape, device)
    tokenizer = make_tokenizer(model.config.vocab_size, surround=True)
    return Retriever.of(model, tokenizer, settings.Retrieval(**shape.retrieval)).to(device)


# ------------------------------------------------------------------ text


def words(rng: np.random.Generator, count: int, vocabulary: int) -> str:
    """``count`` random words that every tokenizer here knows."""
    return " ".join(f"w{number}" for number in rng.integers(0, vocabulary - 20, count))


def make_material(shape: Shape, folder: Path, encoder: Retriever | None = None) -> Material:
    """Passages, questions and what a fixed retriever 'found' (drawn at random); with ``encoder`` also an index."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    vocabulary = min(shape.falcon["vocab_size"], shape.t5["vocab_size"], shape.bert["vocab_size"])

    def length(least: int, most: int, fixed: int) -> int:
        return int(rng.integers(least, most + 1)) if shape.ragged else fixed

    sizes = [length(4, shape.passage_words, shape.passage_words) for _ in range(shape.passages)]
    texts = [words(rng, size, vocabulary) for size in sizes]
    passages = (Passage(str(n), words(rng, 2, vocabulary), text) for n, text in enumerate(texts))
    write_passages(folder / "passages.arrow", passages)
    corpus = Passages(folder / "passages.arrow")
    asked = [Question(str(n), words(rng, 6, vocabulary), [words(rng, length(1, 4, 3), vocabulary)])
             for n in range(shape.questions)]  # fmt: skip
    k = shape.retrieval["k"]
    found = rng.integers(0, shape.passages, (shape.questions, k))
    questions, retrieved = {"train": asked, "dev": asked[:8]}, {"train": found, "dev": found[:8]}
    if encoder is None:
        return Material(corpus, questions, retrieved)
    given = settings.Retrieval(**shape.retrieval)
    files = folder / "tokens.npy", folder / "offsets.npy"
    tokenise_corpus(encoder.passage, folder / "passages.arrow", *files)
    tokens = TokenisedCorpus(*files)
    with torch.no_grad():
        index.embed_shard(
            encoder.eval().passage, tokens, (0, len(corpus)), folder / "shard-0.npy", batch_tokens=given.batch_tokens,
            dtype=given.dtype, progress=False,
        )  # fmt: skip
    return Material(corpus, questions, retrieved, tokens, index.open_shards([folder / "shard-0.npy"]))


def make_trainer(
    shape: Shape, experiment: str, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.bfloat16,
    batch_size: int = 1, steps: int = 10_000,
) -> Trainer:  # fmt: skip
    """A run of one of the paper's experiments at a shape, with the paper scale's rate, batch and signal."""
    scale = settings.load({"scale": "paper"}).scale
    given = scale.experiments[experiment]
    training = scale.training_of(experiment, "nq").model_copy(
        update={"batch_size": batch_size, "steps": steps, "warmup_steps": 0, "refresh_every": steps}
    )
    reader, encoder = make_reader(shape, given.architecture, device), make_retriever(shape, device)
    material = make_material(shape, folder, encoder if "retriever" in given.train else None)
    return Trainer(
        reader, encoder, trained=given.train, signal=given.signal, material=material, training=training,
        distillation=scale.distillation_of(experiment), retrieval=settings.Retrieval(**shape.retrieval), seed=0,
        folder=folder, identity={}, device=device, dtype=dtype, progress=False,
    )  # fmt: skip
