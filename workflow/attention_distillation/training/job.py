"""A training job by its description: in this process, or in one for each GPU, which read it as JSON."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from .. import files, provenance, records
from ..files import InputError
from ..jobs import contents, room, runtime
from ..models.readers import KINDS
from ..models.retriever import Retriever
from ..retrieval import index
from ..retrieval.tokens import TokenisedCorpus
from ..settings import Adapter, Architecture, Bits, Distillation, Part, Prompt, Retrieval, Signal, Training
from ..settings.validation import Strict
from . import context
from .loop import Trainer
from .replicas import Replicas
from .state import State


class Inputs(Strict):
    """Files that a run reads, as rule ``train_run`` declares them. No file: the run has no use for it."""

    passages: Path
    tokens: Path
    offsets: Path
    train: Path
    dev: Path
    test: Path
    reader: Path
    retriever: Path | list[Path]
    prompts: Path | None = None
    retrieved: list[Path] = []
    shards: list[Path] = []
    gold: list[Path] = []

    def folder(self, part: Part) -> Path | list[Path]:
        """The directory of the reader or retriever that the run starts from; of a pair of encoders both."""
        place = getattr(self, part)
        return place if isinstance(place, list) else Path(runtime.part_of(str(place), part))


class Outputs(Strict):
    """What a run writes, as the rule declares it."""

    checkpoint: Path
    log: Path
    retrieved: Path

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.log.parent

    def by_name(self) -> dict[str, Path]:
        return {path.name: path for path in (self.checkpoint, self.log, self.retrieved)}


class TrainJob(Strict):
    """One run, whole: what it reads, what it writes, and every setting that its weights rest on."""

    dataset: str
    experiment: str
    seed: int
    architecture: Architecture
    train: list[Part]
    train_adapter: Adapter | None = None
    reader_bits: Bits | None = None
    signal: Signal
    training: Training
    distillation: Distillation
    retrieval: Retrieval
    prompt: Prompt
    precision: Literal["float32", "bfloat16"]
    origins: dict[str, dict]
    code: str
    inputs: Inputs
    outputs: Outputs
    save_seconds: int = 600

    def settings(self) -> dict:
        """What is set for this run, as plain values; where files lie and how often is saved changes no weight."""
        return self.model_dump(mode="json", exclude={"origins", "code", "inputs", "outputs", "save_seconds"})

    def identity(self) -> dict[str, str]:
        """What a saved state belongs to, in parts that a user knows: settings, origins, code, and each input's content.

        Dates and places of files do not count.
        """
        given = {name: getattr(self.inputs, name) for name in Inputs.model_fields if name != "prompts"}
        given |= {part: self.inputs.folder(part) for part in ("reader", "retriever")}
        whole = {"settings": provenance.digest(self.settings()), "code": self.code}
        whole["settings of origins"] = provenance.digest(self.origins)
        for name, paths in given.items():
            named = paths if isinstance(paths, list) else [paths]
            whole[f"content of {name}"] = " ".join(contents.identity(path) for path in named)
        return whole


def train(job: TrainJob, identity: dict[str, str], replicas: Replicas | None = None) -> None:
    """Train one run and write its checkpoint, its log and what its retriever then finds for the test questions.

    Replica 0 writes. A fixed retriever finds what it found before.
    """
    given, outputs = job.inputs, job.outputs
    retriever = Retriever.load(given.folder("retriever"), job.retrieval)
    trainer = Trainer(
        KINDS[job.architecture].load(given.folder("reader"), bits=job.reader_bits, **job.prompt.model_dump()),
        retriever,
        trained=job.train,
        signal=job.signal,
        material=context.open_material(
            given.passages,
            {split: getattr(given, split) for split in records.SPLITS},
            dict(zip(records.SPLITS, given.retrieved, strict=False)),
            TokenisedCorpus(given.tokens, given.offsets),
            index.open_shards(given.shards),
        ),
        training=job.training,
        distillation=job.distillation,
        retrieval=job.retrieval,
        seed=job.seed,
        folder=outputs.run,
        identity=identity,
        save_seconds=job.save_seconds,
        device=runtime.device(),
        dtype=runtime.dtype(job.precision),
        replicas=replicas,
        gold=context.read_gold(given.gold),
        adapter=job.train_adapter,
    )
    trainer.run()
    if replicas and replicas.rank:
        return
    trainer.save(outputs.checkpoint)
    if "retriever" in job.train:
        trainer.retrieve("test", outputs.retrieved)
    else:
        shutil.copyfile(given.retrieved[-1], outputs.retrieved)
    about = retriever.facts() | {"temperature": retriever.temperature(job.distillation.theta)}
    recorded, layers = trainer.reader.recorded_layers
    facts = provenance.provenance(
        job.settings(), device=runtime.device_name(), belongs_to=identity, retriever=about, layers_recorded=recorded,
        layers=layers,
    )  # fmt: skip
    files.write_json(outputs.checkpoint / "provenance.json", facts)


def train_on(gpus: int, job: TrainJob, threads: int) -> None:
    """Train one run on so many GPUs (or, where there are none, in so many processes).

    Raises:
        InputError: another job trains it, or there is no room for it on the disk or in memory.
    """
    run = job.outputs.run
    with _alone(run):
        identity = job.identity()
        state = State(run, identity)
        if state.restore(job.outputs.by_name()):
            return
        state.claim()  # before room is counted: what is set aside takes its own
        on_gpu = runtime.device() != "cpu"
        start = {part: job.inputs.folder(part) for part in ("reader", "retriever")}
        room.check_training(run, start, job.train, job.inputs.shards, on_gpu=on_gpu, adapter=job.train_adapter)
        if gpus <= 1:
            train(job, identity)
        else:
            description = run / "job.json"
            files.write_json(description, {"job": job.model_dump(mode="json"), "identity": identity})
            runtime.launch(__name__, description, gpus, threads)
            description.unlink()
        state.finish(job.outputs.by_name())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other job writes into the folder: one whose Snakemake is gone may still run when it is started again."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".busy")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another job trains this run; wait until it ends, or end it.") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


if __name__ == "__main__":
    runtime.start_worker()
    description = files.read_json(sys.argv[1])
    together = Replicas.join()
    train(TrainJob(**description["job"]), description["identity"], together)
    together.leave()
