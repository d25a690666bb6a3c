"""Where a user calls the workflow from, and what the place has: another directory, a space in the path, a locale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished import working_copy


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone whose path has a space, with an environment of its own in it."""
    folder = tmp_path_factory.mktemp("a place") / "a clone"
    folder.mkdir()
    working_copy(folder)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for name in ("pyvenv.cfg", "lib"):
        if (Path(sys.prefix) / name).exists():
            (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    return folder


def call(clone: Path, *arguments: str, away: Path, **variables: str) -> subprocess.CompletedProcess:
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = clone / ".venv" / "bin" / "python"
    return subprocess.run(
        [python, "-m", "snakemake", "-s", clone / "Snakefile", "--directory", away, "--cores", "1", *arguments],
        cwd=away, capture_output=True, check=False, env={**own, "PYTHONDONTWRITEBYTECODE": "1", **variables},
    )  # fmt: skip


def test_from_elsewhere_the_default_scale_uses_the_config_and_models_beside_the_snakefile(clone, tmp_path):
    done = call(clone, "--dry-run", away=tmp_path)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said[-3000:]
    assert "results/miniature/tables/" in said and "rule pretrain_model" not in said
    assert os.path.relpath(clone / "workflow" / "pretrained" / "miniature" / "reader", tmp_path) in said


def test_a_config_of_the_working_directory_comes_first(clone, tmp_path):
    (tmp_path / "config.yaml").write_text("scale: smoke\n", "utf-8")
    done = call(clone, "--dry-run", away=tmp_path)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 and "results/smoke/" in said and "results/miniature/" not in said


def test_jobs_run_in_a_clone_whose_path_has_a_space(clone, tmp_path):
    target = "results/smoke/nq/data/questions.test.jsonl"
    done = call(clone, target, "--config", "scale=smoke", away=tmp_path)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    with open(tmp_path / target, encoding="utf-8") as lines:
        assert json.loads(next(lines))["question"]


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_the_plan_prints_whatever_the_terminal_can_show(clone, tmp_path, encoding):
    """What it cannot show is a question mark; the file has it all."""
    done = call(clone, "plan", away=tmp_path, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    printed = done.stdout.decode(encoding)
    assert "Plan of scale 'miniature'" in printed and "train" in printed
    assert "│" in printed if encoding == "utf-8" else "?" in printed
    assert "train" in (tmp_path / "results" / "miniature" / "plan.md").read_text("utf-8")
