"""The paper's scale as a user runs it, from downloads to verdicts: every rule, on stand-ins in the published formats.

What is small here is what the sources table and Appendix D's sizes say, the models' widths and the number of steps;
rules, scripts, formats and tokenizers are those of ``scale: paper``.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import mirror
import pytest
from test_workflow import snakemake, working_copy

from attention_distillation.data.origins import origin_of
from attention_distillation.data.table import read_sources
from attention_distillation.settings import MODEL_KINDS, WORKFLOW, load

pytestmark = pytest.mark.workflow

TABLE = read_sources(WORKFLOW / "reference" / "sources.csv")
WHEELS = {row.name for row in TABLE if row.kind == "wheel"}
RUN = {"triviaqa": ["off_the_shelf"], "nq": ["step2", "atlas", "perplexity"]}
"""With what they start from: both kinds of reader, both signals, one part trained and both, on both data sets."""
TRAINED = ("step1", "step2", "off_the_shelf", "atlas", "perplexity")
FEW = {"steps": 2, "warmup_steps": 1, "refresh_every": 1, "log_every": 1, "validate_every": 1}
SMALL = {
    "retrieval": {"shards": 2},
    "analysis": {"instances": 6, "bootstrap": 50},
    "compute": dict.fromkeys(("train_threads", "embed_threads", "evaluate_threads"), 1),
    "experiments": {name: {"training": dict.fromkeys(RUN, FEW)} for name in TRAINED},
}


def config(dataset: str) -> list[str]:
    asked = [f"datasets=[{dataset}]", f"experiments={json.dumps(RUN[dataset])}", f"overrides={json.dumps(SMALL)}"]
    return ["scale=paper", *asked]


@pytest.fixture
def server(tmp_path):
    """Files and models at the commits that the sources table pins; of one it gives the beginning."""
    repositories = {}
    for kind, name in load({"scale": "paper"}).scale.models.model_dump(include=set(MODEL_KINDS)).items():
        mirror.write_model(kind, tmp_path / "hub" / kind)
        files = {path.name: path.read_bytes() for path in (tmp_path / "hub" / kind).iterdir()}
        commit = origin_of(name, TABLE).row.revision.rpartition("@")[2].ljust(40, "0")
        repositories[name] = commit, {**files, "pytorch_model.bin": b"pickle", "modeling.py": b"raise SystemExit"}
    with mirror.running(mirror.Server(mirror.files(), repositories)) as server:
        yield server


def from_here(folder: Path, server: mirror.Server, passages: int) -> None:
    """The reference tables of a copy: addresses on this machine, sizes of what is there, hashes nobody knows yet."""
    path = folder / "workflow" / "reference" / "sources.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["kind"] == "file":
            row.update(address=f"{server.endpoint}/{row['filename']}", mirror="", bytes="", sha256="")
            row["passages"] = passages if row["passages"] else ""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    sizes = "".join(f"{name},{w.train},{w.dev},{w.test}\n" for name, w in mirror.WORLDS.items())
    (path.parent / "datasets.csv").write_text("dataset,train,validation,test\n" + sizes)


def test_from_downloads_to_verdicts(tmp_path, server, monkeypatch):
    folder = working_copy(tmp_path / "clone")
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    from_here(folder, server, passages=1_000)
    said = snakemake(folder, "results/paper/corpus/wikipedia/passages.arrow", config=["scale=paper"], fails=True)
    log = (folder / "logs" / "paper" / "corpus" / "wikipedia.log").read_text("utf-8")
    assert "where there should be 1,000" in log and log in said.replace("[prepare_corpus wikipedia] ", "")
    from_here(folder, server, mirror.passages())
    snakemake(folder, "--quiet=rules", "data", config=["scale=paper"])
    for name, world in mirror.WORLDS.items():
        facts = json.loads((folder / "results" / "paper" / name / "data" / "facts.json").read_text("utf-8"))
        assert facts["split"] == "fid_index" and facts["sizes"]["train"] == world.train
    for dataset in RUN:  # tables are of the last
        snakemake(folder, "--quiet=rules", *["attention"] * (dataset != "nq"), config=config(dataset))
    made = folder / "results" / "paper"
    log = (made / "triviaqa" / "off_the_shelf" / "seed0" / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in log] == [0, 1, 2]
    with open(made / "tables" / "table1.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["statistic"] == "em"]
    assert {row["experiment"] for row in rows} == set(RUN["nq"])
    assert all(0 <= float(row["mean"]) <= 100 and row["n"].startswith("12") for row in rows)
    assert "C1" in (made / "claims" / "claims.md").read_text("utf-8") and (made / "figures" / "figure3.png").exists()
    assert sorted(path.name for path in (made / "models" / "encoder_decoder").glob("[a-z]*")) == [
        "config.json", "model.safetensors", "special_tokens_map.json", "spiece.model", "tokenizer_config.json",
    ]  # fmt: skip
    locked = json.loads((folder / "results" / "sources.lock.json").read_text("utf-8"))
    assert {row.name for row in TABLE} - set(locked) == {
        "enwiki_dec2018_text",
        "enwiki_dec2018_infobox",
        "t5_large",
        *WHEELS,
    }
    assert locked["falcon_rw_1b"]["commit"] == "79322c5" + "0" * 33

    server.files.clear(), server.repositories.clear()  # everything again, without a network
    shutil.rmtree(made)
    snakemake(folder, "--quiet=rules", "data", "results/paper/models/reader", config=config("nq"))
