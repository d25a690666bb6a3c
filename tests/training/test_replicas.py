"""Two processes train what one does: the same losses, the same weights, and both hold the same bits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import replica_runs
import tiny
import torch
from safetensors.torch import load_file

from attention_distillation.files import read_jsonl
from attention_distillation.jobs import runtime
from attention_distillation.settings import WORKFLOW

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def paths():
    """Where launched processes find the package and the helpers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "workflow"), str(ROOT / "tests" / "support")]))
        yield


@pytest.fixture(scope="module")
def together(paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    runtime.launch("replica_runs", folder, 2, 2)
    return folder


def rows(folder: Path) -> list[dict]:
    return [row for _, row in read_jsonl(folder / "log.jsonl")]


@pytest.mark.parametrize("name", replica_runs.RUNS)
def test_two_processes_train_as_one_does(together, tmp_path, name):
    alone = replica_runs.trainer(name, tmp_path, tiny.material(tmp_path / "material"))
    before = replica_runs.weights(alone)
    log = alone.run()
    found = rows(together / name)
    assert [row["step"] for row in found] == [row["step"] for row in log] == [0, 2, 4, 6]
    for one, two in zip(log, found, strict=True):
        assert one["hr_at_5"] == two["hr_at_5"]
        for loss in ("reader_loss", "retriever_loss"):
            assert two[loss] == (None if one[loss] is None else pytest.approx(one[loss], abs=1e-5)), loss
    both, ends = load_file(together / f"{name}.0.safetensors"), replica_runs.weights(alone)
    learnt = [key for key in ends if not torch.equal(ends[key], before[key])]
    apart, moved = (torch.cat([(ends[key] - other[key]).abs().flatten() for key in learnt]) for other in (both, before))
    assert (moved > 1e-3).float().mean() > 0.1  # many words occur in no text
    # the true gradient of a key's bias is zero, and Adam makes whole steps of its rounding
    assert (apart > 1e-4).float().mean() < 0.01
    assert all(torch.equal(both[key], before[key]) for key in before if key not in learnt)


@pytest.mark.parametrize("name", [*replica_runs.RUNS, "again"])
def test_both_processes_hold_the_same_bits(together, name):
    one, two = (load_file(together / f"{name}.{rank}.safetensors") for rank in (0, 1))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_killed_run_of_two_ends_as_one_that_was_not(together):
    whole, again = (load_file(together / f"{name}.0.safetensors") for name in ("joint", "again"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    for one, two in zip(rows(together / "joint"), rows(together / "again" / "joint"), strict=True):
        assert {**one, "seconds": 0, "questions_per_second": 0} == {**two, "seconds": 0, "questions_per_second": 0}


def test_both_go_on_from_the_same_step(together):
    """Number 0's clock says when a state is saved; it is that of the third step, between two refreshes."""
    assert [json.loads((together / f"taken.{rank}.json").read_text()) for rank in (0, 1)] == [[3, 4, 5]] * 2


def test_every_question_is_taken_by_one(together):
    one, two = (json.loads((together / f"shares.{rank}.json").read_text()) for rank in (0, 1))
    assert [a + b for a, b in zip(one, two, strict=True)] == [[0, 1, 2, 3, 4], [0, 1]]


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_job_that_is_ended_ends_its_processes(tmp_path, sent, status):
    """As a scheduler or the kernel ends it: two that trained on would write into a run that is started again."""
    (tmp_path / "waits.py").write_text(
        "import os, time\nos.write(2, b'pid %d\\n' % os.getpid())\ntime.sleep(120)\n"  # in one piece, for both write
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", "from attention_distillation.jobs import runtime; runtime.launch('waits', 'x', 2, 2)"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{WORKFLOW}"},
    )  # fmt: skip
    pids = []
    for line in parent.stderr:
        pids += map(int, re.findall(r"\bpid (\d+)", line))
        if len(pids) == 2:
            break
    assert len(pids) == 2
    launcher = psutil.Process(parent.pid).children()[0].pid
    parent.send_signal(sent)
    assert parent.wait(60) == status
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(map(lives, [launcher, *pids])):
        time.sleep(0.1)
    left = [pid for pid in [launcher, *pids] if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_what_fails_in_a_process_is_told_and_fails_the_job(tmp_path, capfd):
    with pytest.raises(SystemExit):
        runtime.launch("attention_distillation.training.job", tmp_path / "missing.json", 2, 2)
    told = capfd.readouterr().err
    assert "No such file or directory" in told and "missing.json" in told
