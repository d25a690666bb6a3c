"""The workflow on a real SLURM; ``make test-slurm`` starts one of one node for it (``with_slurm.sh``).

The profile is the one that users get. The options beside it say only that this SLURM keeps no accounts, and that a
node on this machine answers fast.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from test_workflow import ROOT, TABLES, working_copy

HERE = ["--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=2"]
HERE += ["--seconds-between-status-checks=2", "--latency-wait=5"]
ON_A_GPU = {"check_reader", "embed_corpus", "evaluate_run", "retrieve_passages", "train_run"}


def submit(folder: Path, *arguments: str) -> subprocess.Popen:
    """Snakemake with the cluster's profile, started in ``folder``; both streams are one text."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *HERE, *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def said(process: subprocess.Popen, *, fails: bool = False) -> str:
    """All that Snakemake says until it ends; ``fails``: it must.

    The plugin forgets its jobs, and waits for ever, where SLURM answers none of five questions in a row.
    """
    try:
        output, _ = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"not ended within 15 minutes:\n{process.communicate()[0][-6000:]}")
    assert (process.returncode != 0) == fails, output[-6000:]
    return output


def jobs(folder: Path) -> list[dict[str, str]]:
    """What SLURM tells of the jobs submitted from ``folder``, in order; ``rule`` is the rule or group of each."""
    told = subprocess.run(["scontrol", "show", "job", "--oneliner"], text=True, check=True, stdout=subprocess.PIPE)
    known = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in told.stdout.splitlines()]
    mine = [job for job in known if job.get("WorkDir") == str(folder)]
    for job in mine:
        job["rule"] = re.match(r"rule_(\w+?)(_wildcards_|$)", job["Comment"])[1]
    return sorted(mine, key=lambda job: int(job["JobId"]))


# ------------------------------------------------------------------ the miniature, at test size


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[dict]]:
    """A working copy in which the miniature was made with a GPU for every job that runs a model; and all jobs.

    One dataset, and the experiment that trains a reader, then a retriever, and embeds the corpus again.
    """
    folder = working_copy(tmp_path_factory.mktemp("smoke"))
    overrides = {"analysis": {"instances": 8, "bootstrap": 50}, "compute": {"gpus": 1}}
    config = ["scale=smoke", "datasets=[nq]", "experiments=[step2]", f"overrides={json.dumps(overrides)}"]
    said(submit(folder, "--config", *config))
    return folder, jobs(folder)


def test_the_miniature_reaches_tables_and_claims(made):
    folder, told = made
    home = folder / "results" / "smoke"
    assert sorted(path.name for path in (home / "tables").iterdir()) == sorted(TABLES)
    claims = json.loads((home / "claims" / "claims.json").read_text("utf-8"))
    verdicts = {claim["id"]: claim["verdict"] for claim in claims["claims"]}
    assert verdicts["C1"] == "cannot_tell"  # it needs a run that was not asked for
    assert (home / "nq" / "step2" / "seed0" / "predictions.jsonl").stat().st_size > 0
    assert {job["JobState"] for job in told} == {"COMPLETED"}


def test_every_job_went_through_slurm(made):
    assert Counter(job["rule"] for job in made[1]) == {
        "make_world_passages": 1, "make_world_questions": 1, "train_tagger": 1, "check_reader": 1, "check_prompts": 1,
        "check_retriever": 1,
        "tokenise_corpus": 1, "embed_corpus": 2, "retrieve_passages": 1, "train_run": 2, "evaluate_run": 1,
        "report_analyse_tokens_compare_with_paper_draw_figures_judge_claims_make_tables": 1,  # one job for the group
    }  # fmt: skip


def test_jobs_that_run_a_model_ask_for_a_gpu_and_no_others(made):
    asked = {(job["rule"], job.get("TresPerJob")) for job in made[1]}
    assert {rule for rule, gpus in asked if gpus == "gres:gpu:1"} == ON_A_GPU
    assert not [rule for rule, gpus in asked if gpus and rule not in ON_A_GPU]


def test_memory_time_and_cores_are_those_declared(made):
    asked = {job["rule"]: (job["MinMemoryNode"], job["TimeLimit"], job["NumCPUs"]) for job in made[1]}
    assert asked["train_run"] == ("62.50G", "2-00:00:00", "1")
    assert asked["check_prompts"] == ("4000M", "01:00:00", "1")


# ------------------------------------------------------------------ jobs that fail, that are killed, that see a GPU


TROUBLE = """
rule all:
    input: "never", "once", "killed", expand("{gpus}.gpus", gpus=[0, 1])

rule fails:
    output: "never"
    log: "logs/fails.log"
    shell: "echo no luck with this > {log}; exit 1"

rule fails_once:
    output: "once"
    log: "logs/fails_once.log"
    shell: "if mkdir tried; then echo the first time > {log}; exit 1; fi; touch {output}"

rule is_killed:
    output: "killed"
    log: "logs/is_killed.log"
    shell: "if mkdir begun; then sleep 600; fi; touch {output}"

rule sees:
    output: "{gpus}.gpus"
    resources: gpu=lambda wildcards: int(wildcards.gpus)
    shell: "echo ${{CUDA_VISIBLE_DEVICES-}} > {output}"
"""


@pytest.fixture(scope="module")
def trouble(tmp_path_factory) -> tuple[Path, str, list[dict]]:
    """A folder with jobs that fail, fail once, are killed, and use a GPU or none; what was said; all jobs."""
    folder = tmp_path_factory.mktemp("trouble")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "Snakefile").write_text(TROUBLE)
    process = submit(folder)
    while not (folder / "begun").exists():
        assert process.poll() is None, said(process)
        time.sleep(0.5)
    (job,) = (job for job in jobs(folder) if job["rule"] == "is_killed")
    subprocess.run(["scancel", job["JobId"]], check=True)
    return folder, said(process, fails=True), jobs(folder)


def states(told: list[dict], rule: str) -> list[str]:
    return [job["JobState"] for job in told if job["rule"] == rule]


def test_a_failing_job_is_named_with_its_log_and_submitted_again(trouble):
    folder, output, told = trouble
    assert states(told, "fails") == ["FAILED", "FAILED"]
    assert "Error in rule fails:" in output and "logs/fails.log" in output and "no luck with this" in output
    assert not (folder / "never").exists()


def test_a_job_that_fails_once_is_done_at_the_second_try(trouble):
    folder, _, told = trouble
    assert states(told, "fails_once") == ["FAILED", "COMPLETED"]
    assert (folder / "once").exists()


def test_a_killed_job_is_noticed_and_submitted_again(trouble):
    folder, output, told = trouble
    killed = next(job for job in told if job["rule"] == "is_killed")
    assert states(told, "is_killed") == ["CANCELLED", "COMPLETED"]
    assert f"SLURM-job '{killed['JobId']}' failed, SLURM status is: 'CANCELLED'" in output
    assert (folder / "killed").exists()


def test_a_job_sees_the_gpus_that_its_rule_asks_for(trouble):
    folder, _, told = trouble
    assert [(folder / f"{gpus}.gpus").read_text().strip() for gpus in (0, 1)] == ["", "0"]  # ids
    assert sorted(job.get("TresPerJob", "") for job in told if job["rule"] == "sees") == ["", "gres:gpu:1"]
