"""The environments: what every requirements file pins, and which of them a rule that runs a model is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
RULES = re.split(
    r"^(?=(?:use )?rule \w+)", "".join(map(Path.read_text, (ROOT / "workflow/rules").glob("*.smk"))), flags=re.M
)


def lines(name: str) -> list[str]:
    """What a requirements file says, without comments."""
    told = (line.split("#")[0].strip() for line in (ENVS / name).read_text("utf-8").splitlines())
    return [line for line in told if line]


def pins(name: str) -> dict[str, str]:
    """Package and version of every line of a requirements file and of those that it names; anything else fails."""
    found = {}
    for line in lines(name):
        if other := re.fullmatch(r"-r (\S+)", line):
            more = pins(other[1])
        else:
            package, version = re.fullmatch(r"([\w-]+)={2,3}([\w.]+)", line).groups()
            more = {package.lower(): version}
        assert not found.keys() & more.keys(), line
        found |= more
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in ENVS.glob("requirements*.txt")))
def test_every_requirement_is_pinned_once(name):
    assert pins(name)


def test_gpu_and_cpu_differ_in_the_build_of_faiss_alone():
    cpu, gpu = pins("requirements.txt"), pins("requirements-gpu.txt")
    assert cpu.pop("faiss-cpu") == gpu.pop("faiss-gpu")
    assert cpu == gpu and "torch" in gpu


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_an_environment_installs_requirements_that_exist(name):
    """Snakemake copies the YAML elsewhere, so the requirements are named by the script that it runs afterwards."""
    told = yaml.safe_load((ENVS / f"{name}.yaml").read_text("utf-8"))
    assert set(told["dependencies"]) == {"python=3.11", "pip"}
    (file,) = re.findall(r"--requirement (\S+)", (ENVS / f"{name}.post-deploy.sh").read_text("utf-8"))
    assert pins((ROOT / file).relative_to(ENVS).name)


def test_a_rule_has_the_models_environment_where_it_asks_for_a_gpu():
    assert sum("MODEL_ENV\n" in rule for rule in RULES) >= 5
    for rule in RULES[1:]:
        assert ("        gpu=" in rule) == ("        MODEL_ENV\n" in rule), rule.splitlines()[0]
