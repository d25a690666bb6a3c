"""A training job from its plain description: in this process, or in one for each GPU.

The description is JSON, ``{"input", "params", "wildcards", "checkpoint", "log", "retrieved"}``, as rule ``train_run``
has them: the processes of a job on several GPUs read it from the run's folder.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .. import files, provenance, records
from ..files import InputError
from ..jobs import room, runtime
from ..models.readers import KINDS
from ..models.retriever import Retriever, TokenisedCorpus
from ..retrieval import index
from ..settings import Distillation, Retrieval, Training
from . import context
from .loop import Trainer
from .replicas import Replicas


def train(job: dict, replicas: Replicas | None = None) -> None:
    """Train one run and write its checkpoint, its log and what its retriever then finds for the test questions.

    Replica 0 writes. A fixed retriever finds what it found before.
    """
    given, params, wildcards = job["input"], job["params"], job["wildcards"]
    experiment, checkpoint = params["experiment"], Path(job["checkpoint"])
    trainer = Trainer(
        KINDS[experiment["architecture"]].load(runtime.part_of(given["reader"], "reader"), **params["prompt"]),
        Retriever.load(runtime.part_of(given["retriever"], "retriever")),
        trained=experiment["train"],
        signal=experiment["signal"],
        material=context.open_material(
            given["passages"],
            {split: given[split] for split in records.SPLITS},
            dict(zip(records.SPLITS, given.get("retrieved", []), strict=False)),
            TokenisedCorpus(given["tokens"], given["offsets"]),
            index.open_shards(given.get("shards", [])),
        ),
        training=Training(**params["training"]),
        distillation=Distillation(**params["distillation"]),
        retrieval=Retrieval(**params["retrieval"]),
        seed=int(wildcards["seed"]),
        folder=Path(job["log"]).parent,
        config_hash=provenance.digest([params, wildcards]),
        device=runtime.device(),
        dtype=runtime.dtype(params["precision"]),
        replicas=replicas,
        gold=context.read_gold(given.get("gold")),
    )
    trainer.run()
    if replicas and replicas.rank:
        return
    trainer.save(checkpoint)
    if "retriever" in experiment["train"]:
        trainer.retrieve("test", job["retrieved"])
    else:
        shutil.copyfile(given["retrieved"][-1], job["retrieved"])
    facts = provenance.provenance(params, device=runtime.device_name(), **wildcards)
    files.write_json(checkpoint / "provenance.json", facts)
    trainer.forget()


def train_on(gpus: int, job: dict, threads: int) -> None:
    """Train one run on so many GPUs (or, where there are none, in so many processes).

    Raises:
        InputError: another job trains it, or there is no room for it on the disk or in memory.
    """
    given, trained = job["input"], job["params"]["experiment"]["train"]
    folder = Path(job["log"]).parent
    start = {part: runtime.part_of(given[part], part) for part in ("reader", "retriever")}
    with _alone(folder):
        on_gpu = runtime.device() != "cpu"
        room.check_training(folder, start, trained, given.get("shards", []), on_gpu=on_gpu)
        if gpus <= 1:
            train(job)
            return
        description = folder / "job.json"
        files.write_json(description, job)
        runtime.launch(__name__, description, gpus, threads)
        description.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other job writes into the folder: one whose Snakemake is gone may still run when it is started again."""
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
    together = Replicas.join()
    train(files.read_json(sys.argv[1]), together)
    together.leave()
