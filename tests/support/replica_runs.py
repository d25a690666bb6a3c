"""What each of several processes runs, for ``test_replicas.py``: ``python -m replica_runs FOLDER`` under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import models
import numpy as np
import tiny
import torch
from safetensors.torch import save_file

from attention_distillation.files import write_json
from attention_distillation.jobs import runtime
from attention_distillation.settings import Distillation, Training
from attention_distillation.training.loop import Trainer
from attention_distillation.training.replicas import Replicas

BOTH = ["reader", "retriever"]
RUNS = {
    "step1": (["reader"], "none", "falcon_alibi", {}),
    "joint": (BOTH, "attention", "falcon_alibi", {"clip_norm": 0.5}),
    "step2": (["retriever"], "attention", "falcon_alibi", {"accumulate": 2}),
    "fusion": (["reader"], "none", "t5", {}),
}
RETRIEVAL = tiny.RETRIEVAL.model_copy(update={"shards": 3})


def trainer(name: str, folder: Path, material, replicas: Replicas | None = None, save_seconds: float = 600) -> Trainer:
    """A run of 5 questions a batch, which two processes cannot share evenly, its passages shuffled."""
    trained, signal, kind, numbers = RUNS[name]
    reader = models.reader(kind, passage=80, answer=6)
    for module in reader.modules():  # T5's dropout is drawn in each process for itself
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return Trainer(
        reader, tiny.bert(), trained=trained, signal=signal, material=material,
        training=Training(learning_rate=5e-4, steps=6, warmup_steps=1, batch_size=5, refresh_every=2, **numbers),
        distillation=Distillation(tau_gold=0.3, passage_order="shuffled"), retrieval=RETRIEVAL, seed=0,
        folder=folder / name, identity={"settings": "abc"}, replicas=replicas, progress=False,
        save_seconds=save_seconds,
    )  # fmt: skip


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    """All weights of both models."""
    return {
        f"{part}.{name}": weight.detach().clone()
        for part in BOTH
        for name, weight in getattr(made, part).named_parameters()
    }


def stop(made: Trainer, at: int) -> None:
    """Let a run be killed before step ``at``."""
    step = made.step

    def stopped(rows, number, parts):
        if number == at:
            raise KeyboardInterrupt
        return step(rows, number, parts)

    made.step = stopped


def main(folder: Path) -> None:
    """Every run, then the joint one again, killed between two refreshes and gone on with; writes all weights."""
    replicas = Replicas.join()
    material = tiny.material(folder / f"material{replicas.rank}")
    for name in RUNS:
        made = trainer(name, folder, material, replicas)
        made.run()
        save_file(weights(made), folder / f"{name}.{replicas.rank}.safetensors")
    stop(killed := trainer("joint", folder / "again", material, replicas, save_seconds=1e-9), 3)
    try:
        killed.run()
    except KeyboardInterrupt:
        replicas.wait()
    again = trainer("joint", folder / "again", material, replicas)
    taken, step = [], again.step
    again.step = lambda rows, number, parts: taken.append(number) or step(rows, number, parts)
    again.run()
    write_json(folder / f"taken.{replicas.rank}.json", taken)
    save_file(weights(again), folder / f"again.{replicas.rank}.safetensors")
    shares = [replicas.share(np.arange(count)).tolist() for count in (5, 2)]
    write_json(folder / f"shares.{replicas.rank}.json", shares)
    replicas.leave()


if __name__ == "__main__":
    runtime.start_worker()
    main(Path(sys.argv[1]))
