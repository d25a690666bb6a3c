"""Every family of encoders against sentence-transformers' own vectors: read, trained a step, saved, read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from attention_distillation.files import InputError
from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval
from attention_distillation.training.optimiser import Optimiser

WORDS = [
    "query",
    "passage",
    ":",
    "who",
    "built",
    "the",
    "bridge",
    "over",
    "river",
    "it",
    "was",
    "in",
    "of",
    "a",
    "stone",
    "by",
    "ada",
    "bay",
    "near",
    "autumn",
]
TEXTS = [
    "who built the bridge",
    "the bridge over the river was of stone",
    "ada bay",
    "it was built by ada bay in autumn",
]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
POSITIONS = {"max_position_embeddings": 40}


def tokenizer(first: str = "[CLS]", last: str = "[SEP]", pad_first: bool = True, left: bool = False):
    """Words as tokens. ``pad_first``: padding is number 0, as BERT's; else number 1, as RoBERTa's."""
    special = ["[PAD]", first, last, "[UNK]", "[MASK]"] if pad_first else [first, "[PAD]", last, "[UNK]", "[MASK]"]
    names = list(dict.fromkeys([*special, *WORDS]))
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(name, names.index(name)) for name in (first, last)]
    template = "$A " + last if left else f"{first} $A {last}"
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", cls_token=first, sep_token=last, eos_token=last, unk_token="[UNK]",
        mask_token="[MASK]", padding_side="left" if left else "right",
    )  # fmt: skip


def model_of(name: str, **values):
    """A model of a transformers class with weights large enough that texts are told apart."""
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(vocab_size=40, **values))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
    return model.eval()


def bert_like(name: str, **values):
    return model_of(name, **SMALL, **POSITIONS, **values), tokenizer()


def roberta_like(name: str):
    return model_of(name, **SMALL, **POSITIONS, pad_token_id=1), tokenizer("<s>", "</s>", pad_first=False)


ENCODERS = {
    "BERT": lambda: bert_like("Bert"),
    "RoBERTa": lambda: roberta_like("Roberta"),
    "XLM-R": lambda: roberta_like("XLMRoberta"),
    "MPNet": lambda: (model_of("MPNet", **SMALL, **POSITIONS, pad_token_id=1), tokenizer(pad_first=False)),
    "DistilBERT": lambda: (
        model_of("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=32, **POSITIONS), tokenizer(),
    ),
    "ModernBERT": lambda: (
        model_of("ModernBert", **SMALL, **POSITIONS, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
                 sep_token_id=2), tokenizer(),
    ),
    "ALBERT": lambda: bert_like("Albert", embedding_size=8),
    "ELECTRA": lambda: bert_like("Electra", embedding_size=8),
    "ERNIE": lambda: bert_like("Ernie"),
    "NomicBERT": lambda: bert_like("NomicBert"),
    "T5 encoder": lambda: (t5(), tokenizer()),
    "Qwen3": lambda: (
        model_of("Qwen3", **SMALL, **POSITIONS, num_key_value_heads=1, head_dim=8), tokenizer(left=True),
    ),
}  # fmt: skip


def t5():
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return transformers.T5EncoderModel(config).eval()


MODULES = {  # pooling, what follows it, prompts
    "BERT, mean, Normalize (MiniLM, GTE)": ("BERT", "mean", ["normalize"], {}),
    "BERT, CLS, Normalize (BGE, mxbai, arctic)": ("BERT", "cls", ["normalize"], {"query": "query : "}),
    "BERT, CLS, Dense, Normalize (LaBSE)": ("BERT", "cls", ["dense", "normalize"], {}),
    "BERT, mean, prompts (E5)": ("BERT", "mean", ["normalize"], {"query": "query : ", "passage": "passage : "}),
    "XLM-R, CLS, Normalize (bge-m3, multilingual-e5)": ("XLM-R", "cls", ["normalize"], {}),
    "RoBERTa, mean (all-distilroberta)": ("RoBERTa", "mean", ["normalize"], {}),
    "MPNet, mean, Normalize (all-mpnet)": ("MPNet", "mean", ["normalize"], {}),
    "DistilBERT, CLS (msmarco-distilbert)": ("DistilBERT", "cls", [], {}),
    "ModernBERT, CLS, Normalize (gte-modernbert)": ("ModernBERT", "cls", ["normalize"], {}),
    "ALBERT, mean": ("ALBERT", "mean", [], {}),
    "ELECTRA, mean": ("ELECTRA", "mean", [], {}),
    "ERNIE, mean": ("ERNIE", "mean", ["normalize"], {}),
    "NomicBERT, mean, Normalize": ("NomicBERT", "mean", ["normalize"], {"query": "query : "}),
    "T5 encoder, mean, Dense (sentence-t5, gtr)": ("T5 encoder", "mean", ["dense", "normalize"], {}),
    "Qwen3, last token, Normalize (Qwen3-Embedding)": ("Qwen3", "lasttoken", ["normalize"], {"query": "query : "}),
}


def directory(folder: Path, family: str) -> Path:
    """A directory as sentence-transformers writes it; of a family without modules as transformers does."""
    encoder, pooling, after, prompts = MODULES.get(family, (family, None, [], {}))
    model, words = ENCODERS[encoder]()
    plain = folder / "plain"
    model.save_pretrained(plain)
    words.save_pretrained(plain)
    if pooling is None:
        return plain
    torch.manual_seed(1)
    parts = [st.Transformer(str(plain), model_kwargs={"use_safetensors": True}), st.Pooling(16, pooling)]
    for name in after:
        parts.append(st.Normalize() if name == "normalize" else st.Dense(16, 12, activation_function=torch.nn.Tanh()))
    similarity = "dot" if "(msmarco" in family else None
    SentenceTransformer(modules=parts, prompts=prompts, similarity_fn_name=similarity, device="cpu").save(
        str(folder / "made")
    )
    return folder / "made"


def own_vectors(folder: Path, side: str) -> np.ndarray:
    """sentence-transformers' own, by the directory alone; E5's card calls its passages' prompt ``passage``."""
    model = SentenceTransformer(str(folder), device="cpu")
    if side == "question":
        return model.encode_query(TEXTS)
    name = next((name for name in ("document", "passage") if model.prompts.get(name)), None)
    return model.encode(TEXTS, prompt_name=name)


def as_scored(vectors: np.ndarray, retriever: Retriever) -> np.ndarray:
    """Vectors whose dot product is the directory's similarity."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if retriever.similarity == "cosine" else vectors


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.linalg.norm(other, axis=1).mean())


@pytest.mark.parametrize("family", MODULES)
def test_vectors_are_those_of_the_directory(family, tmp_path):
    """Read, then trained a step, saved and read again by both libraries."""
    folder = directory(tmp_path, family)
    retriever = Retriever.load(folder).eval()
    for side in (retriever.question, retriever.passage):
        own = as_scored(own_vectors(folder, side.side), retriever)
        assert apart(side.embed(side.tokenise(TEXTS)), own) < 1e-5
    assert retriever.similarity == SentenceTransformer(str(folder), device="cpu").similarity_fn_name

    before = {name: weight.clone() for name, weight in retriever.state_dict().items()}
    optimiser = Optimiser({"retriever": retriever.train()})
    question, passages = retriever.question, retriever.passage
    scores = question(question.tokenise(TEXTS[:1])) @ passages(passages.tokenise(TEXTS[1:])).T
    (-scores.log_softmax(-1)[0, 0]).backward()
    optimiser.step({"retriever": 1e-3})
    changed = [name for name, weight in retriever.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(changed) >= 10 and ("Dense" not in family or any("linear" in name for name in changed))

    retriever.eval().save(tmp_path / "saved")
    again = Retriever.load(tmp_path / "saved").eval()
    for side, read in ((retriever.question, again.question), (retriever.passage, again.passage)):
        rows = side.tokenise(TEXTS)
        assert [row.tolist() for row in rows] == [row.tolist() for row in read.tokenise(TEXTS)]
        assert np.array_equal(side.embed(rows), read.embed(rows))
        assert apart(side.embed(rows), as_scored(own_vectors(tmp_path / "saved", side.side), retriever)) < 1e-5


@pytest.mark.parametrize("family", [name for name in ENCODERS if name != "Qwen3"])
def test_a_plain_encoder_is_read_as_contriever_s(family, tmp_path):
    """Mean pooling over the text's own tokens, by the model's own class alone."""
    folder = directory(tmp_path, family)
    encoder = Retriever.load(folder).eval().passage
    model, words = ENCODERS[family]()
    with torch.no_grad():
        for text, vector in zip(TEXTS, encoder.embed(encoder.tokenise(TEXTS)), strict=True):
            row = words(text, return_tensors="pt", return_token_type_ids=False)
            hidden = model(**row).last_hidden_state[0].mean(0).numpy()
            assert apart(vector[None], hidden[None]) < 1e-5


def test_the_page_lists_the_families_that_are_tried():
    page = Path(__file__).parents[2] / "docs" / "models.md"
    section = page.read_text().split("## Retrievers", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in section.split("| family |", 1)[1].splitlines()[2:]]
    listed = {row[0]: row[1] for row in rows if len(row) == 2}
    plain = {name: "plain" for name in ENCODERS if name != "Qwen3"}
    assert listed == plain | {"DPR": "pair", "DRAGON": "pair"} | dict.fromkeys(MODULES, "modules")


def test_a_plain_decoder_does_not_say_how_it_embeds(tmp_path):
    with pytest.raises(InputError, match=r"decoder's directory without modules\.json"):
        Retriever.load(directory(tmp_path, "Qwen3"))


def pair_of(folder: Path, kind: str):
    """Two encoders of a kind with weights of their own: their directories, and each side's vectors by its own class."""
    places, own = {}, {}
    for number, (side, name) in enumerate((("question", "Question"), ("passage", "Context"))):
        if kind == "DPR":
            made = getattr(transformers, f"DPR{name}Encoder")
            torch.manual_seed(number)
            model = made(transformers.DPRConfig(vocab_size=40, projection_dim=12, **SMALL, **POSITIONS)).eval()
        else:
            model = model_of("Bert", **SMALL, **POSITIONS)
            with torch.no_grad():
                model.embeddings.word_embeddings.weight.mul_(1 + number)
        places[side], words = folder / side, tokenizer()
        model.save_pretrained(places[side])
        words.save_pretrained(places[side])
        with torch.no_grad():
            outputs = [model(**words(text, return_tensors="pt")) for text in TEXTS]
        first = [out.pooler_output if kind == "DPR" else out.last_hidden_state[:, 0] for out in outputs]
        own[side] = torch.cat(first).numpy()
    return list(places.values()), own


@pytest.mark.parametrize("kind", ["DPR", "DRAGON"])
def test_a_pair_is_read_trained_a_step_and_read_again(kind, tmp_path):
    """DPR with its projection; DRAGON, two plain encoders whose vector is the first token's, as the config says."""
    places, own = pair_of(tmp_path, kind)
    stated = Retrieval(pooling="cls") if kind == "DRAGON" else None
    retriever = Retriever.load(places, stated).eval()
    for side in (retriever.question, retriever.passage):
        assert apart(side.embed(side.tokenise(TEXTS)), own[side.side]) < 1e-5
    assert retriever.similarity == "dot" and apart(own["question"], own["passage"]) > 0.1
    if kind == "DRAGON":
        mean = Retriever.load(places, Retrieval(pooling="mean")).eval().passage
        assert apart(mean.embed(mean.tokenise(TEXTS)), own["passage"]) > 0.1

    before = {name: weight.clone() for name, weight in retriever.named_parameters()}
    optimiser = Optimiser({"retriever": retriever.train()})
    question, passages = retriever.question, retriever.passage
    scores = question(question.tokenise(TEXTS[:1])) @ passages(passages.tokenise(TEXTS[1:])).T
    (-scores.log_softmax(-1)[0, 0]).backward()
    optimiser.step({"retriever": 1e-3})
    for side in ("question", "passage"):  # both learn
        encoder = getattr(retriever, side)
        held = {id(weight) for weight in encoder.model.parameters()}
        changed = [
            name for name, weight in retriever.named_parameters()
            if id(weight) in held and not torch.equal(weight, before[name])
        ]  # fmt: skip
        assert len(changed) >= 10, side

    retriever.eval().save(tmp_path / "saved")
    again = Retriever.load(tmp_path / "saved").eval()
    for side, read in ((retriever.question, again.question), (retriever.passage, again.passage)):
        rows = side.tokenise(TEXTS)
        assert np.array_equal(side.embed(rows), read.embed(rows))
        assert apart(side.embed(rows), own[side.side]) > 1e-5


def test_weights_that_are_pickled_or_missing_are_refused(tmp_path):
    folder = directory(tmp_path, "BERT, CLS, Dense, Normalize (LaBSE)")
    dense = next(path for path in folder.glob("*_Dense/model.safetensors"))
    torch.save({"linear.weight": torch.zeros(12, 16)}, dense.with_name("pytorch_model.bin"))
    dense.unlink()
    with pytest.raises(InputError, match="safetensors"):
        Retriever.load(folder)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path):
    folder = directory(tmp_path, "BERT")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match="tokenizer"):
        Retriever.load(folder)
