"""Everything that the sources table names, in miniature: the published file formats, from a server on this machine.

Files are as their publishers wrote them (names of tensors, keys of configs, kinds of tokenizers, layout of archives);
what is in them is of a generated world and of small random weights.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch

from attention_distillation.data import miniature
from attention_distillation.settings import World

WORLDS = {name: World(variant=name, people=8, train=24, dev=8, test=12, seed=2) for name in ("nq", "triviaqa")}

# ------------------------------------------------------------------ models

FALCON = {  # tiiuae/falcon-rw-1b: code of its own is named, a token of its own for padding is not
    "alibi": True, "apply_residual_connection_post_layernorm": False, "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig",
                                           "AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM"},
    "bias": True, "bos_token_id": 1, "eos_token_id": 2, "hidden_dropout": 0.0, "hidden_size": 32,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "falcon", "multi_query": False,
    "new_decoder_architecture": False, "num_attention_heads": 4, "num_hidden_layers": 2, "parallel_attn": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.27.4", "use_cache": True,
}  # fmt: skip
T5 = {  # google/t5-large-lm-adapt: an output layer of its own
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 64, "d_kv": 8, "d_model": 32,
    "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
    "num_decoder_layers": 2, "num_heads": 4, "num_layers": 2, "output_past": True, "pad_token_id": 0,
    "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "transformers_version": "4.6.0.dev0",
    "use_cache": True,
}  # fmt: skip
BERT = {  # facebook/contriever
    "architectures": ["Contriever"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 32, "initializer_range": 0.02,
    "intermediate_size": 64, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
    "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0, "position_embedding_type": "absolute",
    "transformers_version": "4.9.1", "type_vocab_size": 2, "use_cache": True,
}  # fmt: skip


@lru_cache
def texts() -> tuple[str, ...]:
    """What the tokenizers are trained on."""
    told = [f"{row.title} {row.text}" for world in WORLDS.values() for row in miniature.passages(world)]
    return (*told, *(f"question: {q.question} answer: {q.answers[0]}" for q in asked("nq")["train"]))


def asked(name: str) -> dict[str, list]:
    """The questions of a world."""
    return miniature.questions(WORLDS[name])


def write_model(kind: str, folder: Path) -> None:
    """A repository of the hub as the paper's checkpoint of this kind has it; bfloat16 where it is published so."""
    folder.mkdir(parents=True, exist_ok=True)
    config, vocabulary = {"reader": _falcon, "encoder_decoder": _t5, "retriever": _bert}[kind](folder)
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": vocabulary}, indent=2))
    _write_weights(kind, folder)


def _write_weights(kind: str, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, BertModel

    config, dtype, gone, more = AutoConfig.from_pretrained(folder), torch.float32, [], {}
    if kind == "reader":
        model, dtype, gone = AutoModelForCausalLM.from_config(config), torch.bfloat16, ["lm_head.weight"]
    elif kind == "encoder_decoder":
        model = AutoModelForSeq2SeqLM.from_config(config)
        gone = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    else:
        model = BertModel(config, add_pooling_layer=False)
        more = {"embeddings.position_ids": torch.arange(512)[None]}  # a buffer that was saved in its day
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.ones(value.shape) if "norm" in name.lower() and name.endswith("weight") else
               torch.randn(value.shape, generator=draw) * 0.2).to(dtype)
        for name, value in model.state_dict().items() if name not in gone
    }  # fmt: skip
    save_file(weights | more, folder / "model.safetensors", metadata={"format": "pt"})


def _falcon(folder: Path) -> tuple[dict, int]:
    """GPT-2's tokenizer files; the vocabulary of the weights is larger."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer, end = ByteLevelBPETokenizer(), "<|endoftext|>"
    tokenizer.train_from_iterator(texts(), vocab_size=600, special_tokens=[end], show_progress=False)
    tokenizer.save_model(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "special_tokens_map.json", {"bos_token": end, "eos_token": end, "unk_token": end})
    _write(folder / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": end, "eos_token": end, "unk_token": end, "model_max_length": 1024,
        "tokenizer_class": "GPT2Tokenizer",
    })  # fmt: skip
    return FALCON, tokenizer.get_vocab_size() + 47


def _t5(folder: Path) -> tuple[dict, int]:
    """A spiece.model and no tokenizer.json; 100 tokens more come from the config, and 28 have no name."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()), model_writer=model, vocab_size=400, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    extra = {"additional_special_tokens": [f"<extra_id_{number}>" for number in range(100)]}
    _write(folder / "special_tokens_map.json", named | extra)
    _write(folder / "tokenizer_config.json", {**named, "extra_ids": 100, **extra, "model_max_length": 512})
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    return T5, pieces + 128


def _bert(folder: Path) -> tuple[dict, int]:
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(texts(), vocab_size=500, show_progress=False)
    tokenizer.save_model(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    _write(folder / "special_tokens_map.json", named)
    _write(folder / "tokenizer_config.json", {
        "do_lower_case": True, **named, "model_max_length": 512, "tokenizer_class": "BertTokenizer",
    })  # fmt: skip
    return BERT, tokenizer.get_vocab_size()


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


# ------------------------------------------------------------------ files


def files() -> dict[str, bytes]:
    """The table's files, by their names."""
    index = {}
    for name, prefix in (("nq", "NQ"), ("triviaqa", "TQA")):
        rows = list(range(WORLDS[name].train + WORLDS[name].dev))[::-1]
        index[f"dataindex/{prefix}.train.idx.json"] = json.dumps(rows[: WORLDS[name].train]).encode()
        index[f"dataindex/{prefix}.dev.idx.json"] = json.dumps(rows[WORLDS[name].train :]).encode()
    trivia = {
        f"triviaqa-unfiltered/unfiltered-web-{part}.json": json.dumps({"Data": [
            {"Question": q.question, "QuestionId": q.id, "Answer": {"Value": q.target, "Aliases": q.answers}}
            for q in questions
        ], "Domain": "unfiltered-web", "Version": 1.0}).encode()
        for part, questions in _published("triviaqa").items()
    }  # fmt: skip
    return {
        **{
            f"NQ-open.{part}.jsonl": "".join(
                json.dumps({"question": q.question, "answer": q.answers}) + "\n" for q in questions
            ).encode()
            for part, questions in _published("nq").items()
        },
        "triviaqa-unfiltered.tar.gz": tar(trivia),
        "dataindex.tar.gz": tar(index),
        "psgs_w100.tsv.gz": gzip.compress(_passages().encode()),
        "en_core_web_sm-3.8.0-py3-none-any.whl": _tagger(),
    }


def _published(name: str) -> dict[str, list]:
    """What is published as train holds the paper's train and validation; as dev, its test."""
    questions = asked(name)
    return {"train": questions["train"] + questions["dev"], "dev": questions["test"]}


def passages() -> int:
    """How many psgs_w100 has here."""
    return _passages().count("\n") - 1


@lru_cache
def _passages() -> str:
    """Both worlds' passages, quoted as CSV quotes."""
    rows = [row for world in WORLDS.values() for row in miniature.passages(world)]
    return "id\ttext\ttitle\n" + "".join(
        f'{number}\t"{row.text} He said ""so"" ."\t{row.title}\n' for number, row in enumerate(rows, 1)
    )


def tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A gzipped archive of files, or of entries of another kind (links, devices)."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return held.getvalue()


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """The same, written."""
    path.write_bytes(tar(members))
    return path


def _tagger() -> bytes:
    """A wheel that holds a spaCy pipeline where en_core_web_sm's holds its own; it knows the worlds' words."""
    import tempfile

    import spacy

    tagger = spacy.blank("en")
    ruler = tagger.add_pipe("attribute_ruler")
    for word, part in miniature.PARTS_OF_SPEECH.items():
        ruler.add(patterns=[[{"ORTH": word}]], attrs={"POS": part})
    held = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(held, "w") as wheel:
        tagger.to_disk(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                wheel.write(path, f"en_core_web_sm/en_core_web_sm-3.8.0/{path.relative_to(folder)}")
        wheel.writestr("en_core_web_sm/__init__.py", "raise SystemExit('was run')\n")
        wheel.writestr("en_core_web_sm-3.8.0.dist-info/METADATA", "Name: en_core_web_sm\n")
    return held.getvalue()


# ------------------------------------------------------------------ the server


class Server(ThreadingHTTPServer):
    """Files at ``/<name>``, and as much of the hub's protocol as its client asks for.

    Attributes:
        files: bodies by path.
        repositories: of the hub, by name: (commit, bodies by file name).
        faults: so many requests are answered 503 first.
        refusal: every request is answered with this status and hub's error code.
        sent: bodies that are sent in place of a repository's announced ones.
        seen: paths that were asked for.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], repositories: dict[str, tuple[str, dict[str, bytes]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.repositories = files, repositories
        self.faults, self.refusal, self.sent, self.seen = 0, None, {}, []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):  # noqa: N802
        self.do_GET()

    def do_GET(self):  # noqa: N802
        server, path = self.server, unquote(urlsplit(self.path).path)
        server.seen.append(path)
        if server.faults:
            server.faults -= 1
            return self.answer(503, b"")
        if server.refusal:
            return self.answer(server.refusal[0], b"{}", X_Error_Code=server.refusal[1])
        if path.lstrip("/") in server.files:
            return self.answer(200, server.files[path.lstrip("/")])
        for name, (commit, known) in server.repositories.items():
            if path.startswith((f"/api/models/{name}/", f"/{name}/")):
                return self.repository(path, name, commit, known)
        return self.answer(404, b"{}", X_Error_Code="RepoNotFound")

    def repository(self, path: str, name: str, commit: str, known: dict[str, bytes]):
        asked = f"/api/models/{name}/revision/"
        if path.startswith(asked):
            ref = path.removeprefix(asked)
            if ref not in ("main", "refs/pr/7", commit):
                return self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
            siblings = [{"rfilename": file, "size": len(body), **_lfs(file, body)} for file, body in known.items()]
            return self.answer(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())
        if path.startswith(f"/api/models/{name}/tree/"):
            tree = [
                {"type": "file", "path": file, "oid": hashlib.sha1(body).hexdigest(), "size": len(body)}
                | _lfs(file, body)
                for file, body in known.items()
            ]
            return self.answer(200, json.dumps(tree).encode())
        file = path.removeprefix(f"/{name}/resolve/{commit}/")
        if file not in known:
            return self.answer(404, b"{}", X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha256(known[file]).hexdigest()}"'
        return self.answer(200, self.server.sent.get(file, known[file]), ETag=etag, X_Repo_Commit=commit)


def _lfs(name: str, body: bytes) -> dict:
    if not name.endswith((".safetensors", ".bin")):
        return {}
    digest = hashlib.sha256(body).hexdigest()
    return {"lfs": {"oid": digest, "sha256": digest, "size": len(body), "pointerSize": 130}}


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator:
    """The server, while the block lasts."""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
