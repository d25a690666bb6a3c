"""A working copy whose every output is there and recorded, empty: what Snakemake would make again can be asked at once.

``snakemake --touch`` records params and inputs of each job as a run does; no job runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def working_copy(folder: Path) -> Path:
    """All that Snakemake needs of this project, in ``folder``."""
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def snakemake(folder: Path, *arguments: str, config: dict, environment: dict | None = None) -> str:
    """What Snakemake says, both streams; it must succeed."""
    given = [f"{key}={json.dumps(value)}" for key, value in config.items()]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, *(["--config", *given] if given else [])],
        cwd=folder, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**own, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def finish(folder: Path, *targets: str, config: dict) -> Path:
    """Lay every output that the targets need, and have Snakemake record it."""
    summary = snakemake(folder, "--summary", *targets, config=config)
    for line in summary.splitlines():
        place, *rest = line.split("\t")
        if len(rest) == 5 and place != "output_file":
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
    snakemake(folder, "--touch", "--forceall", *targets, config=config)
    return folder


def planned(folder: Path, *targets: str, config: dict) -> set[str]:
    """Jobs of a dry run: ``rule`` and, of a run's jobs, the experiment, dataset and seed: ``train_run step1 nq 0``."""
    said = snakemake(folder, "--dry-run", *targets, config=config)
    jobs = set()
    for name, block in re.findall(r"^(?:local)?rule (\w+):\n((?: +.*\n)*)", said, re.MULTILINE):
        wildcards = dict(re.findall(r"(\w+)=([^,\s]+)", "".join(re.findall(r"wildcards: (.*)", block))))
        which = [wildcards[key] for key in ("experiment", "dataset", "seed") if key in wildcards]
        jobs.add(" ".join([name, *which]) if "experiment" in wildcards else name)
    return jobs - {"all", *targets}
