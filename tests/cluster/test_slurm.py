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

HERE = ["--slurm-no-account", "--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=2"]
HERE += ["--seconds-between-status-checks=2", "--latency-wait=5"]
ON_A_GPU = {"embed_corpus", "embed_trained", "evaluate_run", "retrieve_passages", "retrieve_trained", "train_run"}


def submit(folder: Path, *arguments: str) -> subprocess.Popen:
    """Snakemake with the cluster's profile, started in ``folder``; both streams are one text."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *HERE, *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def said(process: subprocess.Popen, *, fails: bool = False) -> str:
    """All that Snakemake says until it ends; ``fails``: it must."""
    output, _ = process.communicate()
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


def smoke(gpus: int) -> list[str]:
    """One dataset, and the experiment that trains a reader, then a retriever, and embeds the corpus again."""
    overrides = {"analysis": {"instances": 8, "bootstrap": 50}, "compute": {"gpus": gpus}}
    return ["--config", "scale=smoke", "datasets=[nq]", "experiments=[step2]", f"overrides={json.dumps(overrides)}"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[dict], list[dict]]:
    """A working copy; the jobs that made its first index, which asked for no GPU; those of the rest, which did."""
    folder = working_copy(tmp_path_factory.mktemp("smoke"))
    said(submit(folder, "results/smoke/corpus/nq/index/initial/shard-0.npy", *smoke(gpus=0)))
    without = jobs(folder)
    said(submit(folder, *smoke(gpus=1)))
    return folder, without, jobs(folder)[len(without) :]


def test_the_miniature_reaches_tables_and_claims(made):
    folder, without, rest = made
    home = folder / "results" / "smoke"
    assert sorted(path.name for path in (home / "tables").iterdir()) == sorted(TABLES)
    claims = json.loads((home / "claims" / "claims.json").read_text("utf-8"))
    verdicts = {claim["id"]: claim["verdict"] for claim in claims["claims"]}
    assert verdicts["C1"] == "cannot_tell"  # it needs a run that was not asked for
    assert (home / "nq" / "step2" / "seed0" / "predictions.jsonl").stat().st_size > 0
    assert {job["JobState"] for job in without + rest} == {"COMPLETED"}


def test_every_job_went_through_slurm(made):
    _, without, rest = made
    assert [job["rule"] for job in without] == ["make_world_passages", "tokenise_corpus", "embed_corpus"]
    assert Counter(job["rule"] for job in rest) == {
        "make_world_questions": 1, "train_tagger": 1, "check_prompts": 1, "embed_corpus": 1, "retrieve_passages": 1,
        "train_run": 2, "embed_trained": 2, "retrieve_trained": 1, "evaluate_run": 1, "report": 1,
    }  # fmt: skip


def test_jobs_that_run_a_model_ask_for_a_gpu_and_no_others(made):
    _, without, rest = made
    assert {job["rule"] for job in rest if "gres:gpu:1" in job.get("TresPerJob", "")} == ON_A_GPU
    assert {job["rule"] for job in rest if "gres/gpu=1" in job["TRES"]} == ON_A_GPU
    told = {job["rule"]: job for job in rest}
    assert not [job for rule, job in told.items() if rule not in ON_A_GPU and "gpu" in job.get("TresPerJob", "")]


def test_a_scale_without_gpus_asks_for_none(made):
    _, without, _ = made
    assert "embed_corpus" in ON_A_GPU & {job["rule"] for job in without}
    assert not any("gpu" in job.get("TresPerJob", "") + job["TRES"] for job in without)


def test_memory_and_time_are_those_of_the_profile(made):
    _, _, rest = made
    asked = {job["rule"]: (job["MinMemoryNode"], job["TimeLimit"], job["NumCPUs"]) for job in rest}
    assert asked["train_run"] == ("62.50G", "2-00:00:00", "1")
    assert asked["check_prompts"] == ("4000M", "01:00:00", "1")


# ------------------------------------------------------------------ jobs that fail, jobs that are killed


TROUBLE = """
rule all:
    input: "never", "once", "killed"

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
"""


@pytest.fixture(scope="module")
def trouble(tmp_path_factory) -> tuple[Path, str, list[dict]]:
    """A folder with a job that fails, one that fails once and one that somebody kills; what was said; all jobs."""
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
