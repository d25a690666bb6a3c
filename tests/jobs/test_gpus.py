"""Jobs that share a machine's GPUs, with a driver that is a script."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from attention_distillation.files import InputError
from attention_distillation.jobs import gpus
from attention_distillation.settings import WORKFLOW

JOB = """
import os, sys
from attention_distillation.jobs import gpus
gpus.WAIT = 0.05
gpus.claim(int(sys.argv[1]), sys.argv[2])
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of so many GPUs, or one whose nvidia-smi does something else."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def machine(count: int = 0, script: str = "") -> None:
        driver = tmp_path / "bin" / "nvidia-smi"
        driver.parent.mkdir(exist_ok=True)
        lines = [f"echo 'GPU {number}: NVIDIA H100 80GB HBM3 (UUID: GPU-{number})'" for number in range(count)]
        driver.write_text("\n".join(["#!/bin/sh", *lines, script, ""]))
        driver.chmod(0o755)
        monkeypatch.setenv("PATH", f"{driver.parent}:/usr/bin:/bin")

    return machine


@pytest.fixture
def job(tmp_path):
    """Start a job that claims so many and keeps them until its input is closed."""
    running = []
    (tmp_path / "locks").mkdir()

    def start(count: int) -> subprocess.Popen:
        command = [sys.executable, "-c", JOB, str(count), str(tmp_path / "locks")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, **pipes, text=True, cwd=WORKFLOW))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_jobs_have_different_gpus_and_the_one_too_many_waits(machine, job):
    machine(3)
    assert job(1).stdout.readline() == "GPU-0\n"
    pair = job(2)
    assert pair.stdout.readline() == "GPU-1,GPU-2\n"
    late = job(1)
    assert late.stderr.readline() == "waits for 1 of 3 GPUs; other jobs have them\n" and late.poll() is None
    pair.kill()  # a killed job keeps nothing
    assert late.stdout.readline() == "GPU-1\n"


def test_who_cannot_have_all_that_it_wants_keeps_none(machine, job, tmp_path):
    machine(2)
    assert job(1).stdout.readline() == "GPU-0\n"
    assert gpus._try(["GPU-0", "GPU-1"], 2, tmp_path / "locks") == []
    assert job(1).stdout.readline() == "GPU-1\n"


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, ["GPU-0", "GPU-1"]),
        ("1,0", ["GPU-1", "GPU-0"]),
        ("GPU-1", ["GPU-1"]),
        ("1,GPU-1", ["GPU-1"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["GPU-0"]),
    ],
    ids=str,
)
def test_only_what_the_user_or_a_scheduler_lets_it_see(machine, monkeypatch, chosen, seen):
    machine(2)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == seen


@pytest.mark.parametrize("chosen", ["2", "MIG-a", "GPU"])
def test_a_gpu_that_is_not_there_or_is_two_is_an_error(machine, monkeypatch, chosen):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    with pytest.raises(InputError, match=rf"'{chosen}' is none of this machine's GPUs \(GPU-0, GPU-1\)"):
        gpus.visible()


def test_a_number_and_a_uuid_are_one_card(machine, job, monkeypatch):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert job(1).stdout.readline() == "GPU-0\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0")
    late = job(1)
    assert late.stderr.readline() == "waits for 1 of 1 GPUs; other jobs have them\n"


def test_all_clones_and_users_of_a_machine_look_at_one_place(monkeypatch, tmp_path):
    """Its folder is writable by all, and another user's lock is read, not written."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert str(gpus.place()) in gpus.PLACES and gpus.place().stat().st_mode & 0o002
    lock = tmp_path / "a.lock"
    os.close(gpus._opened(lock))
    assert lock.stat().st_mode & 0o777 == 0o644
    os.close(gpus._opened(lock))


def test_slices_of_a_card_stand_for_it(machine):
    slices = [f"echo '  MIG 3g.40gb     Device  {number}: (UUID: MIG-{number})'" for number in range(2)]
    machine(2, "\n".join(slices))
    assert gpus.visible() == ["GPU-0", "MIG-0", "MIG-1"]


def test_two_allocations_of_one_scheduler_do_not_wait_for_each_other(machine, job, monkeypatch):
    """What a scheduler gave to two of its jobs they may share."""
    machine(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for number in ("1", "2"):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        assert job(1).stdout.readline() == "GPU-0\n"


def test_too_few_are_told_and_none_are_no_matter(machine, monkeypatch, tmp_path, capsys):
    machine(1)
    with pytest.raises(InputError, match=r"compute\.gpus: 2 are asked for, and there are 1"):
        gpus.claim(2, tmp_path / "locks")
    monkeypatch.setenv("PATH", "/nowhere")
    gpus.claim(2, tmp_path / "locks")  # CPUs do what GPUs would
    assert capsys.readouterr().err == "there is no GPU here: runs on the CPU\n" and not (tmp_path / "locks").exists()


def test_who_asks_for_none_sees_none(machine, monkeypatch, tmp_path):
    machine(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpus.claim(0, tmp_path / "locks")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not (tmp_path / "locks").exists()


def test_a_driver_that_fails_is_no_machine_without_gpus(machine, monkeypatch, tmp_path):
    machine(1, "echo 'Unable to determine the device handle'; exit 15")
    with pytest.raises(InputError, match=r"nvidia-smi -L fails \(.*Unable to determine"):
        gpus.visible()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="name them in CUDA_VISIBLE_DEVICES"):
        gpus.visible()
