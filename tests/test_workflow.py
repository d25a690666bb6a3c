"""The workflow as a user runs it: Snakemake on a working copy, at a scale where every rule takes seconds."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attention_distillation import provenance, settings

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[1]
COLUMNS = "table,experiment,dataset,statistic,target,percentile,mean,std,n,ci_low,ci_high"
EXPERIMENTS = ("step2", "perplexity")
"""With what they start from they need every rule: both readers, both signals, a frozen and a trained retriever."""
SMALL = {"analysis": {"instances": 8, "bootstrap": 50}}
SMOKE = ["scale=smoke", "datasets=[nq]", f"experiments=[{','.join(EXPERIMENTS)}]", f"overrides={json.dumps(SMALL)}"]
TABLES = [f"table{n}.{kind}" for n in (1, 2, 3, 4) for kind in ("csv", "md", "tex")]
TABLES += [f"{name}.{kind}" for name in ("appendix_c", "signal") for kind in ("csv", "md", "tex")]
TABLES += ["differences.csv", "differences.md"]
TABLES += ["compare.csv", "compare.md"]
FIGURES = [f"figure{n}.{kind}" for n in (1, 3, 4, 5, 6, 7) for kind in ("png", "pdf")]


def working_copy(folder: Path) -> Path:
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def snakemake(folder: Path, *arguments: str, config: list[str] = SMOKE, fails: bool = False) -> str:
    """What Snakemake says, both streams; ``fails``: it must."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--config", *config],
        cwd=folder, env=environment, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout[-3000:]
    return done.stdout


def planned(folder: Path, *arguments: str, config: list[str] = SMOKE) -> set[str]:
    """Rules that a dry run would run."""
    said = snakemake(folder, "--dry-run", "--quiet=rules", *arguments, config=config)
    return set(re.findall(r"^(\w+) +\d+$", said, re.MULTILINE)) - {"total"}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A working copy in which everything was made, once."""
    folder = working_copy(tmp_path_factory.mktemp("finished"))
    snakemake(folder, "--quiet=rules")
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """The finished copy, to be spoilt."""
    return shutil.copytree(finished, tmp_path / "copy", symlinks=True)


# ------------------------------------------------------------------ all of it


def test_everything_that_was_promised_is_there(finished):
    home = finished / "results" / "smoke"
    assert sorted(path.name for path in (home / "tables").iterdir()) == sorted(TABLES)
    assert sorted(path.name for path in (home / "figures").iterdir()) == sorted(FIGURES)
    assert sorted(path.name for path in (home / "claims").iterdir()) == ["claims.json", "claims.md"]
    assert all(path.stat().st_size for part in ("tables", "figures", "claims") for path in (home / part).iterdir())
    for experiment in EXPERIMENTS:
        run = home / "nq" / experiment / "seed0"
        held = {path.name for path in run.iterdir()}
        assert {"attention.parquet", "checkpoint", "log.jsonl", "metrics.json", "predictions.jsonl"} <= held
        assert "state" not in held
    left = [path for path in finished.rglob("*") if path.name.endswith((".part", ".bin", ".pt", ".pkl"))]
    assert [path for path in left if "tagger" not in path.parts] == []  # spaCy's lookups.bin is msgpack


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "table4", "appendix_c", "differences"])
def test_columns_of_the_tables(finished, table):
    with open(finished / "results" / "smoke" / "tables" / f"{table}.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    columns = COLUMNS + ",p_above" * (table == "differences")
    assert ",".join(rows[0]) == columns and len(rows) > 1
    assert {len(row) for row in rows} == {columns.count(",") + 1}


def test_what_a_run_says_of_itself(finished):
    home = finished / "results" / "smoke" / "nq" / "step2" / "seed0"
    metrics = json.loads((home / "metrics.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (home / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert set(metrics) == {"em", "f1", "hr_at_5", "n", "provenance", "retriever"} and metrics["n"] == len(lines) == 30
    assert metrics["em"] == pytest.approx(100 * sum(line["em"] for line in lines) / 30)
    facts = metrics["provenance"]
    assert {"commit", "versions", "device"} <= set(facts)
    run = settings.load({"scale": "smoke", "datasets": ["nq"], "experiments": list(EXPERIMENTS), "overrides": SMALL})
    assert facts["config_hash"] == provenance.digest(run.scale.behind("step2", "nq"))
    assert (facts["dataset"], facts["experiment"], facts["seed"]) == ("nq", "step2", "0")
    log = [json.loads(line) for line in (home / "log.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in log] == [0, 2, 4] and all(row["reader_loss"] is None for row in log)


def test_experiments_that_were_not_run_are_told_so(finished):
    text = (finished / "results" / "smoke" / "tables" / "table1.md").read_text("utf-8")
    assert "not run" in text
    claims = json.loads((finished / "results" / "smoke" / "claims" / "claims.json").read_text("utf-8"))
    verdicts = {claim["id"]: claim["verdict"] for claim in claims["claims"]}
    assert verdicts["C1"] == verdicts["C2"] == verdicts["C6"] == "cannot_tell"
    assert verdicts["C3"] == "not_measurable"  # in a few steps no decoder-only reader learns to answer
    assert verdicts["C7"] == "cannot_tell"  # T5 copies before it is trained, but one seed tells nothing


def test_signals_are_compared_beside_a_uniform_and_a_random_target(copy):
    few = {"learning_rate": 1e-3, "steps": 2, "warmup_steps": 1, "batch_size": 4, "refresh_every": 2}
    comparison = {
        "signals": ["attention_layers", "uniform", "random"], "teachers": {"untouched": "initial"},
        "rates": {"high": few}, "skip": ["none", "nothing_found"],
        "distillation": {"tau_gold": 0.5, "tau_unit": "spread", "layers": 1, "measured_questions": 8},
    }  # fmt: skip
    changes = {**SMALL, "comparison": comparison}
    config = [*SMOKE[:-1], f"overrides={json.dumps(changes)}"]
    snakemake(copy, "--quiet=rules", "signals", config=config)
    home = copy / "results" / "smoke"
    with open(home / "analysis" / "signals.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["world"] for row in rows} == {"smoke"} and {row["n"] for row in rows} == {"30"}
    page = (home / "tables" / "signals.md").read_text("utf-8")
    assert page.count("| one world cannot tell |") == 6 and "not paper-scale numbers" in page
    assert (home / "tables" / "predictive_power.md").exists()


def test_a_scale_without_a_comparison_is_refused_in_one_line(finished):
    said = snakemake(finished, "--dry-run", "signals", fails=True)
    assert "the scale 'smoke' compares no signals" in said


# ------------------------------------------------------------------ what is made again, and what is not


def test_a_second_call_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished)


def test_a_comment_restarts_nothing(copy):
    package = copy / "workflow" / "attention_distillation"
    for module in (
        "training/loop",
        "models/attention",
        "models/readers/decoder_only",
        "data/miniature",
        "settings/schema",
    ):
        path = package / f"{module}.py"
        path.write_text("# a comment\n" + path.read_text("utf-8") + "\n\n# another\n")
    script = copy / "workflow" / "scripts" / "train_run.py"
    script.write_text(script.read_text("utf-8") + "\n# and one in a script\n")
    assert planned(copy) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "again", "not_again"),
    [
        (
            "training/signals.py",
            '"sum") / batch',
            '"mean")',
            {"train_run", "evaluate_run", "make_tables"},
            {"embed_corpus"},
        ),
        ("analysis/statistics.py", "own, ddof=1", "own, ddof=0", {"make_tables"}, {"train_run", "evaluate_run"}),
        ("../reference/worlds.yaml", "acorn ", "acorns ", {"make_world_passages", "train_run"}, set()),
    ],
)
def test_a_changed_formula_restarts_what_depends_on_it(copy, file, old, new, again, not_again):
    path = copy / "workflow" / "attention_distillation" / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new))
    rules = planned(copy)
    assert again <= rules and not not_again & rules, rules


def test_a_changed_number_restarts_what_depends_on_it(copy):
    fewer = {**SMALL, "experiments": {"step2": {"training": {"default": {"steps": 3}}}}}
    runs = snakemake(copy, "--dry-run", config=[*SMOKE[:3], f"overrides={json.dumps(fewer)}"])
    trained = {re.search(r"experiment=(\w+)", block)[1] for block in runs.split("rule train_run:")[1:]}
    assert trained == {"step2"}


def test_tables_and_figures_come_from_the_artifacts_alone(copy, finished):
    """Models, corpus, index and Snakemake's memory are gone: what a clone with cached artifacts has."""
    home = copy / "results" / "smoke"
    kept = {"attention.parquet", "predictions.jsonl", "log.jsonl", "metrics.json"}
    for path in sorted(home.rglob("*"), reverse=True):
        if path.is_file() and path.name not in kept:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    shutil.rmtree(copy / ".snakemake")
    targets = ("tables", "figures", "claims")
    rules = planned(copy, *targets)
    assert rules - set(targets) == {
        "analyse_tokens", "make_tables", "draw_figures", "judge_claims", "compare_with_paper"
    }  # fmt: skip
    snakemake(copy, "--quiet=rules", *targets)
    for name in TABLES:
        ours, theirs = (folder / "results" / "smoke" / "tables" / name for folder in (copy, finished))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_a_run_made_again_gives_the_same_bytes(copy, finished):
    """Training, index, retrieval, answers and dump of step2 and all tables, from the same seed."""
    home = copy / "results" / "smoke"
    shutil.rmtree(home / "nq" / "step2")
    shutil.rmtree(home / "tables")
    snakemake(copy, "--quiet=rules", "tables")
    first = finished / "results" / "smoke"
    run = Path("nq/step2/seed0")
    for name in ("predictions.jsonl", "metrics.json", "attention.parquet", "checkpoint/retriever/model.safetensors"):
        assert (home / run / name).read_bytes() == (first / run / name).read_bytes(), name
    for name in TABLES:
        assert (home / "tables" / name).read_bytes() == (first / "tables" / name).read_bytes(), name


def test_the_report_is_one_page_with_everything_in_it(copy):
    """By a Snakemake that is not on the PATH, as in the README."""
    snakemake(copy, "--quiet=rules", "report")
    page = (copy / "results" / "smoke" / "report.html").read_text("utf-8")
    shown = [*(f"table{n}.csv" for n in (1, 2, 3, 4)), "appendix_c.csv", "signal.csv", "compare.csv", "claims.md"]
    assert not [name for name in [*shown, *FIGURES[::2]] if f'{name}"' not in page]
    assert not re.search(r"""<(script|link)[^>]*(src|href)=["']?https?:""", page)


def test_a_demo_over_committed_artifacts_is_refused(tmp_path):
    """It would train nothing and show them as the user's own run."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "results" / "miniature").mkdir(parents=True)
    (tmp_path / "results" / "miniature" / ".seeds").write_text("[0]")
    (tmp_path / "envs").mkdir()
    for part in ("", "-models", "-tables"):
        (tmp_path / "envs" / f"requirements{part}.txt").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()  # newer than what it is made from
    done = subprocess.run(["make", "demo"], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode and "committed artifacts" in done.stdout and "Move it away" in done.stdout


# ------------------------------------------------------------------ a user's own data

PASSAGES = [{"id": str(n), "title": f"Town {n}", "text": f"town number {n} lies on river {n} ."} for n in range(12)]
ASKED = [{"question": f"on which river lies town {n} ?", "answers": [f"river {n}"]} for n in range(4)]


def test_would_this_reader_teach_my_retriever(tmp_path):
    """The controls of a user's own data, with models made from it, beside the initial ones."""
    folder = working_copy(tmp_path)
    for name, rows in {"passages": PASSAGES, "train": ASKED, "dev": ASKED, "test": ASKED}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    custom = {
        "name": "towns", "passages": "passages.jsonl", "pretrain": True, "nouns": "content_words",
        "questions": {split: f"{split}.jsonl" for split in ("train", "dev", "test")},
    }  # fmt: skip
    few = {"training": {"default": {"steps": 2, "warmup_steps": 0, "batch_size": 2, "refresh_every": 1}}}
    kinds = ("reader", "encoder_decoder", "retriever")
    small = {
        "models": {"pretraining": {"hidden_size": 32, "layers": 1, "heads": 2, "vocabulary": 300,
                                   "steps": dict.fromkeys(kinds, 3), "batch_size": dict.fromkeys(kinds, 4)}},
        "experiments": dict.fromkeys(("frozen_checkpoint", "off_the_shelf_slow"), few),
        "analysis": {"instances": 4, "bootstrap": 50},
    }  # fmt: skip
    config = [
        "scale=custom",
        f"custom={json.dumps(custom)}",
        f"overrides={json.dumps(small)}",
        "experiments=[checkpoint]",
    ]
    snakemake(folder, "--quiet=rules", "controls", config=config)
    tables = folder / "results" / "towns" / "tables"
    names = [f"controls{part}.{kind}" for part in ("", "_differences", "_signal") for kind in ("csv", "md")]
    assert sorted(path.name for path in tables.iterdir()) == sorted(names)
    with open(tables / "controls_differences.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["experiment"], row["statistic"]) for row in rows} == {
        (f"{control} - checkpoint", statistic)
        for control in ("frozen_checkpoint", "off_the_shelf_slow")
        for statistic in ("em", "f1", "hr_at_5")
    }
    frozen = [json.loads(line) for line in (
        folder / "results" / "towns" / "towns" / "frozen_checkpoint" / "seed0" / "log.jsonl"
    ).read_text("utf-8").splitlines()]  # fmt: skip
    assert [row["step"] for row in frozen] == [0, 1, 2]


# ------------------------------------------------------------------ what a user may get wrong


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (["seed=[1]"], "seed: unknown key; did you mean 'seeds'?"),
        (["overrides={retreival: {k: 3}}"], "retreival: unknown key; did you mean 'retrieval'?"),
        (["scale=minature"], "config key 'scale': there is no scale 'minature'; did you mean 'miniature'?"),
        (["scale=custom"], "scale 'custom' and the key 'custom'"),
        (["overrides={models: {reader: falcon-rw-1b}}"], "'falcon-rw-1b' is no directory and no .gguf file here"),
        (["overrides={models: {reader: workflow/scales}}"], "workflow/scales: no config.json"),
    ],
)
def test_a_wrong_config_is_told_before_anything_runs(tmp_path, config, said):
    folder = working_copy(tmp_path)
    output = snakemake(folder, config=config, fails=True)
    assert sum(said in line for line in output.splitlines()) == 1, output
    assert "Traceback" not in output and "pydantic" not in output
    assert not (folder / "results").exists() and not (folder / "logs").exists()


@pytest.mark.parametrize(
    ("spoilt", "line", "said"),
    [
        ("passages", '{"id": "x", "title": "T"}', "passages.jsonl, line 13: field 'text' is missing"),
        ("passages", '{"id": "3", "text": "again"}', "passages.jsonl, line 13: id '3' came before"),
        ("test", '{"question": "why ?", "answers": [""]}', "test.jsonl, line 5: field 'answers' is empty"),
        ("dev", "not json", "dev.jsonl, line 5: not JSON"),
    ],
)
def test_malformed_data_stop_the_run_before_any_model_is_made(tmp_path, spoilt, line, said):
    folder = working_copy(tmp_path)
    for name, rows in {"passages": PASSAGES, "train": ASKED, "dev": ASKED, "test": ASKED}.items():
        lines = [json.dumps(row) for row in rows] + [line] * (name == spoilt)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    custom = {
        "passages": "passages.jsonl", "questions": {split: f"{split}.jsonl" for split in ("train", "dev", "test")},
        "pretrain": True, "nouns": "content_words",
    }  # fmt: skip
    output = snakemake(folder, config=["scale=custom", f"custom={json.dumps(custom)}"], fails=True)
    assert said in output and "Traceback" not in output, output
    rule = "check_passages" if spoilt == "passages" else "check_questions"
    (log,) = (folder / "logs" / "custom" / rule).glob("*.log")
    assert len(log.read_text("utf-8").splitlines()) == 1 and said in log.read_text("utf-8")
    made = [path.name for path in (folder / "results").rglob("*") if path.is_file()]
    assert not any("questions." in name if rule == "check_questions" else name == "passages.arrow" for name in made)
    assert not any(".part" in name for name in made)
    for rule in ("pretrain_model", "train_run", "tokenise_corpus"):
        assert not (folder / "logs" / "custom" / rule).exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    folder = working_copy(tmp_path)
    custom = {
        "passages": "nowhere.jsonl", "questions": dict.fromkeys(("train", "dev", "test"), "asked.jsonl"),
        "pretrain": True, "nouns": "content_words",
    }  # fmt: skip
    output = snakemake(folder, "--dry-run", config=["scale=custom", f"custom={json.dumps(custom)}"], fails=True)
    assert "nowhere.jsonl" in output and "Missing input files" in output and "Traceback" not in output
