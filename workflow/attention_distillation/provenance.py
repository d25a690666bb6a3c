"""Where a result came from: hash of its settings, versions, commit, device."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

_TOLD = (
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "peft",
    "bitsandbytes",
    "faiss-cpu",
    "faiss-gpu",
    "datasets",
    "spacy",
    "numpy",
    "pandas",
    "scipy",
)


def digest(value: object) -> str:
    """A short hash of any JSON-able value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def _commit() -> str:
    """The commit that the code is at, marked when the work tree differs; 'none' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:  # no git where the job runs
        return "none"
    return done.stdout.strip() or "none"


def provenance(settings: dict, *, device: str = "cpu", **facts: object) -> dict:
    """Where a result came from: the hash of its settings, versions, commit, device, and what else is given."""
    versions = {}
    for name in _TOLD:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "config_hash": digest(settings),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions,
        "device": device,
        **facts,
    }
