"""What a killed run goes on from, what it belongs to, and what a finished run is kept by until it is recorded.

A run's folder holds, beside its declared outputs, which Snakemake deletes when a job fails:

``state/``            weights in float32, moments of AdamW, and ``state.json``: step, log, what it belongs to
``state.index/``      shards of the last refresh (module ``live_index``)
``state.set_aside/``  both of the above as another run left them: one of other settings, origins, data or code
``finished/``         hard links to the outputs of a job that has ended

Why ``finished/``: Snakemake takes a job's outputs for whole once it has recorded its success, some time after the job
has ended. Killed in between, it deletes them at the next call. Days of training must not hang on that second. The job
therefore drops state and index only when its outputs are whole and linked there; a link takes no room on the disk. A
job that is started once more takes its outputs from it. :func:`release` drops it in the first job that reads the
outputs: Snakemake starts that one only when the success is recorded.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..files import read_json, write_json
from ..jobs.room import SET_ASIDE

STATE, INDEX, FINISHED = "state", "state.index", "finished"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps taken.
        log: rows of ``log.jsonl``.
        sums: each loss, summed over the steps since the last row.
        since: how many steps these are.
        busy: seconds of these steps.
        seconds: of the whole run.
        measured: fields of :class:`signals.Measured`, as of the last refresh; empty where the signal needs none.
    """

    step: int = 0
    log: list[dict] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    since: int = 0
    busy: float = 0.0
    seconds: float = 0.0
    measured: dict = field(default_factory=dict)


class State:
    """The state of a run, replaced whole or not at all.

    Weights that are trained and moments are safetensors, the rest is JSON; nothing is pickled.

    Args:
        run: the run's folder.
        identity: what the state belongs to, part by part: a state that differs in one is not gone on from.
    """

    def __init__(self, run: str | Path, identity: Mapping[str, str]) -> None:
        self.run, self.identity = Path(run), dict(identity)
        self.folder = self.run / STATE

    def save(self, progress: Progress, modules: Mapping, optimiser) -> None:
        """Write the state: ``modules`` (reader, retriever) that are trained, by name, and their optimiser."""
        from safetensors.torch import save_file

        part, old = self._beside("part"), self._beside("old")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, module in modules.items():
            with optimiser.exact(name):
                learnt = {weight: value.contiguous() for weight, value in _trained(module).items()}
                save_file(learnt, part / f"{name}.safetensors")
            save_file(optimiser.moments(name), part / f"{name}.optimiser.safetensors")
        write_json(part / "state.json", {"belongs_to": self.identity, **asdict(progress)})
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        part.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def claim(self) -> bool:
        """Is there a state of this run? One of another run is set aside, and the log says what differs."""
        old = self._beside("old")
        if not self.folder.exists() and old.exists():  # killed between the two renames
            old.rename(self.folder)
        if not (self.folder / "state.json").exists():
            shutil.rmtree(self.run / INDEX, ignore_errors=True)  # an index belongs to a state
            return False
        facts = read_json(self.folder / "state.json")
        differs = differences(facts["belongs_to"], self.identity)
        if not differs:
            return True
        aside = self.run / SET_ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for folder in (self.folder, self.run / INDEX):
            if folder.exists():
                folder.rename(aside / folder.name)
        sys.stderr.write(
            f"{self.folder}: of step {facts['step']} of another run ({differs} differ); set aside in {aside.name}, "
            "and this run starts at step 0\n"
        )
        return False

    def load(self, modules: Mapping, optimiser) -> Progress:
        """Fill modules and optimiser from the state; where there is none of this run, leave them as they are."""
        from safetensors.torch import load_file

        if not self.claim():
            return Progress()
        facts = read_json(self.folder / "state.json")
        del facts["belongs_to"]
        for name, module in modules.items():
            with optimiser.exact(name):
                saved = load_file(self.folder / f"{name}.safetensors")
                for weight, value in _trained(module).items():
                    value.copy_(saved[weight])
            optimiser.load_moments(name, load_file(self.folder / f"{name}.optimiser.safetensors"))
        return Progress(**facts)

    def finish(self, outputs: Mapping[str, Path]) -> None:
        """Link the outputs, now whole, and then drop everything else that was kept to go on from."""
        part, finished = self._beside("finished.part"), self.run / FINISHED
        shutil.rmtree(part, ignore_errors=True)
        for name, path in outputs.items():
            _link(path, part / name)
        write_json(part / "belongs_to.json", self.identity)
        shutil.rmtree(finished, ignore_errors=True)
        part.rename(finished)
        for name in (STATE, INDEX, SET_ASIDE):
            shutil.rmtree(self.run / name, ignore_errors=True)

    def restore(self, outputs: Mapping[str, Path]) -> bool:
        """Put the outputs of a finished run back, where this very run has finished; else forget what is there."""
        finished = self.run / FINISHED
        if (finished / "belongs_to.json").exists():
            if read_json(finished / "belongs_to.json") == self.identity:
                for name, path in outputs.items():
                    _link(finished / name, path)
                sys.stderr.write(f"{finished}: this run had ended; its results are taken from there\n")
                return True
            shutil.rmtree(finished)
        return False

    def _beside(self, word: str) -> Path:
        return self.run / f".{STATE}.{word}"


def release(run: str | Path) -> None:
    """Drop what a finished run was kept by; for a job that reads its outputs, so that its success is recorded."""
    shutil.rmtree(Path(run) / FINISHED, ignore_errors=True)


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The parts in which two identities differ, as words."""
    return ", ".join(sorted(part for part in one.keys() | other.keys() if one.get(part) != other.get(part)))


def _trained(module) -> dict:
    """A module's weights that learn, by name; a shared one once."""
    return {name: weight.data for name, weight in module.named_parameters() if weight.requires_grad}


def _link(source: Path, target: Path) -> None:
    """The file or folder again under another name; a copy where the disk has no hard links."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=_link_file)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _link_file(source, target)


def _link_file(source, target) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
