"""The loop: retrieve, read, distil, refresh; a log row at each refresh, a checkpoint to go on from.

It knows readers and signals by their interface alone. One rule covers every experiment: whatever is named in
``train`` gets an optimiser, and the retriever learns from the ``signal``.

Every random draw of step n comes from (seed, n), so that a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import evaluation, index
from .context import Material, context_rows, rng_of, target_answer
from .readers import Reader
from .records import write_json, write_jsonl
from .retriever import Retriever
from .settings import Distillation, Retrieval, Training
from .signals import SIGNALS, kl, retriever_log_distribution


def batches(count: int, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Question numbers of each step: epoch after epoch, each in an order of its own."""
    order, epoch = np.empty(0, dtype=np.int64), 0
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng_of(seed, 1, epoch).permutation(count)])
            epoch += 1
        yield order[:batch]
        order = order[batch:]


# ------------------------------------------------------------------ state to go on from


class State:
    """A folder outside the declared outputs, so that a failed job keeps it; replaced whole or not at all.

    Weights and optimiser moments are safetensors; the rest is JSON. Nothing is pickled.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, step: int, parts: dict[str, tuple[torch.nn.Module, torch.optim.Optimizer]], facts: dict) -> None:
        """Write the state after ``step`` steps."""
        from safetensors.torch import save_file

        part = self.folder.with_name(f".{self.folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, (module, optimizer) in parts.items():
            module.save(part / name)
            moments = {
                f"{number}.{key}": torch.as_tensor(value).contiguous()
                for number, values in optimizer.state_dict()["state"].items()
                for key, value in values.items()
            }
            save_file(moments, part / f"{name}.optimizer.safetensors")
        write_json(part / "state.json", {"step": step, **facts})
        old = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        part.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, parts: dict[str, tuple[torch.nn.Module, torch.optim.Optimizer]], config_hash: str) -> dict | None:
        """Restore; None where there is nothing, or what is there belongs to another configuration."""
        from safetensors.torch import load_file

        old = self.folder.with_name(f".{self.folder.name}.old")
        if not self.folder.exists() and old.exists():  # killed between the two renames
            old.rename(self.folder)
        if not (self.folder / "state.json").exists():
            return None
        facts = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        if facts["config_hash"] != config_hash:
            return None
        for name, (module, optimizer) in parts.items():
            weights = type(module.model).from_pretrained(
                self.folder / name, use_safetensors=True, dtype=torch.float32, **_no_pooling(module)
            )
            module.model.load_state_dict(weights.state_dict())
            state: dict = {}
            for key, value in load_file(self.folder / f"{name}.optimizer.safetensors").items():
                number, field = key.split(".", 1)
                state.setdefault(int(number), {})[field] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return facts


def _no_pooling(module: torch.nn.Module) -> dict:
    return {"add_pooling_layer": False} if isinstance(module, Retriever) else {}


# ------------------------------------------------------------------ the loop


class Trainer:
    """One run: an experiment on a dataset with a seed.

    Args:
        reader: the reader it starts from.
        retriever: the retriever it starts from.
        trained: which of ``reader`` and ``retriever`` learn.
        signal: a word of :data:`signals.SIGNALS`, or ``none``.
        material: what it reads.
        training: Appendix E's numbers.
        distillation: temperatures, order, context.
        retrieval: k, index.
        seed: of everything drawn.
        folder: the run's folder: ``log.jsonl`` and ``state/`` are written there.
        config_hash: a state of another configuration is not taken up.
        autocast: makes the context of each forward. One a forward: a longer one would keep stale casts of weights.
        gold: for ``context: gold``, an answer-bearing passage for each training question, -1 where there is none.
    """

    def __init__(
        self, reader: Reader, retriever: Retriever, *, trained: Sequence[str], signal: str, material: Material,
        training: Training, distillation: Distillation, retrieval: Retrieval, seed: int, folder: str | Path,
        config_hash: str, device: str = "cpu", gold: np.ndarray | None = None, progress: bool = True,
        autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        self.reader, self.retriever = reader.to(device), retriever.to(device)
        self.trained, self.signal, self.material = set(trained), signal, material
        self.training, self.distillation, self.retrieval = training, distillation, retrieval
        self.seed, self.folder, self.config_hash = seed, Path(folder), config_hash
        self.device, self.gold, self.progress, self.autocast = device, gold, progress, autocast
        modules = {"reader": self.reader, "retriever": self.retriever}
        for name, module in modules.items():
            module.requires_grad_(name in self.trained).train(name in self.trained)
        self.parts = {
            name: (module, torch.optim.Adam(module.parameters(), lr=training.learning_rate, fused=device != "cpu"))
            for name, module in modules.items()
            if name in self.trained
        }
        self.state = State(self.folder / "state")
        self.shard_folder = self.folder / "state.index"
        self.log: list[dict] = []
        self._index = None
        self._question_tokens = {
            split: retriever.tokenise([q.question for q in material.questions[split]], retrieval.question_max_tokens)
            for split in ("train", "dev")
        }

    # -------------------------------------------------------------- retrieval

    def refresh(self) -> None:
        """Embed the corpus with the current retriever: the same shards, by the same code, as the first index."""
        self._index = None  # two of them do not fit: the paper's corpus takes 32 GB of a GPU
        self.retriever.eval()
        paths = []
        for shard in range(self.retrieval.shards):
            paths.append(self.shard_folder / f"shard-{shard}.npy")
            bounds = index.shard_bounds(len(self.material.tokens), shard, self.retrieval.shards)
            with self.autocast():
                index.embed_shard(
                    self.retriever, self.material.tokens, bounds, paths[-1],
                    batch_tokens=self.retrieval.batch_tokens, dtype=self.retrieval.dtype, progress=False,
                )  # fmt: skip
        self._index = index.build(index.open_shards(paths), self.retrieval, self.device)
        self.retriever.train("retriever" in self.trained)

    def retrieved(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Passages for questions ``rows`` of a split, int64 (questions, k), best first."""
        if "retriever" not in self.trained:
            return self.material.retrieved[split][rows]
        questions = self.retriever.embed([self._question_tokens[split][row] for row in rows])
        return self._index.search(questions, self.retrieval.k)[1]

    def validation_hit_rate(self) -> float:
        """HR@k on the validation sample, with index and retriever as they are."""
        questions = self.material.questions["dev"][: self.training.validation_questions]
        with self.autocast():
            found = self.material.texts(self.retrieved("dev", np.arange(len(questions))))
        hits = [
            evaluation.hit([text for _, text in texts], q.answers) for texts, q in zip(found, questions, strict=True)
        ]
        return float(np.mean(hits))

    # -------------------------------------------------------------- one step

    def _losses(self, rows: np.ndarray, step: int) -> dict[str, torch.Tensor]:
        """The losses of a part of a batch, means over its questions."""
        questions = [self.material.questions["train"][row] for row in rows]
        gold = None if self.gold is None else self.gold[rows]
        found = context_rows(
            self.retrieved("train", rows), questions, self.material, self.distillation,
            rng_of(self.seed, 2, step, int(rows[0])), gold,
        )  # fmt: skip
        encoded = self.reader.encode(
            [q.question for q in questions],
            self.material.texts(found),
            [target_answer(q, self.seed) for q in questions],
        ).to(self.device)
        losses = {}
        with torch.set_grad_enabled("reader" in self.trained):
            output = self.reader(
                encoded, record=self.signal == "attention", value_norm=self.distillation.value_norm,
                check=self.device == "cpu",
            )  # fmt: skip
        if "reader" in self.trained:
            losses["reader"] = output.answer_loss.mean()
        if "retriever" in self.trained:
            target = SIGNALS[self.signal](self.reader, encoded, output, self.distillation, self.retrieval.k)
            asked = self.retriever([self._question_tokens["train"][row] for row in rows])
            passages = self.retriever(self.material.tokens[found.ravel()]).view(*found.shape, -1)
            losses["retriever"] = kl(target, retriever_log_distribution(asked, passages, self.distillation.theta))
        return losses

    def _rate(self, step: int) -> float:
        """Linear warm-up, then linear decay."""
        warmup, steps = self.training.warmup_steps, self.training.steps
        if step < warmup:
            return self.training.learning_rate * (step + 1) / warmup
        return self.training.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))

    def step(self, rows: np.ndarray, step: int) -> dict[str, torch.Tensor]:
        """One optimiser step of whatever is trained; the batch in ``accumulate`` parts. Returns detached losses."""
        torch.manual_seed(int(rng_of(self.seed, 4, step).integers(2**63)))
        totals: dict[str, torch.Tensor] = {}
        for _, optimizer in self.parts.values():
            optimizer.zero_grad(set_to_none=True)
        for part in np.array_split(rows, min(self.training.accumulate, len(rows))):
            with self.autocast():
                losses = self._losses(part, step)
            share = len(part) / len(rows)
            (sum(losses.values()) * share).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.detach() * share
        for _, optimizer in self.parts.values():
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step)
            optimizer.step()
        return totals

    # -------------------------------------------------------------- the run

    def run(self) -> list[dict]:
        """Train from the start or from the last checkpoint; returns the log rows."""
        training = self.training
        facts = self.state.load(self.parts, self.config_hash)
        begin = facts["step"] if facts else 0
        if "retriever" in self.trained:
            if begin:
                self.refresh()
            else:
                self._index = index.build(self.material.shards, self.retrieval, self.device)
        path = self.folder / "log.jsonl"
        self.log = facts["log"] if facts else []
        spent = self.log[-1]["seconds"] if self.log else 0.0
        if not begin:
            self.log.append(self._row(0, {}, 0, 0.0, 0.0))
        write_jsonl(path, self.log)  # a job that was killed after its last step finds its log deleted and none to come
        sums: dict[str, torch.Tensor] = {}
        since, started = 0, time.monotonic()
        last = started
        order = batches(len(self.material.questions["train"]), training.batch_size, training.steps, self.seed)
        bar = tqdm(total=training.steps, initial=begin, desc="training", unit="step", mininterval=5,
                   disable=not self.progress)  # fmt: skip
        for step, rows in enumerate(order):
            if step < begin:
                continue
            for name, loss in self.step(rows, step).items():
                sums[name] = sums.get(name, 0) + loss
            since += 1
            bar.update()
            done = step + 1
            if done % training.refresh_every == 0 or done == training.steps:
                now = time.monotonic()
                speed = since * training.batch_size / (now - last)
                if "retriever" in self.trained:
                    self.refresh()
                self.log.append(self._row(done, sums, since, speed, spent + time.monotonic() - started))
                write_jsonl(path, self.log)
                bar.set_postfix({k: v for k, v in self.log[-1].items() if k in ("hr_at_5", "reader_loss")})
                self.state.save(done, self.parts, {"config_hash": self.config_hash, "log": self.log})
                sums, since, last = {}, 0, time.monotonic()
        bar.close()
        return self.log

    def _row(self, step: int, sums: dict, since: int, speed: float, seconds: float) -> dict:
        """A log row; the one place where losses are read back from the device.

        Raises:
            FloatingPointError: a loss is no number: nothing after it would mean anything.
        """
        for name, total in sums.items():
            if not torch.isfinite(total):
                raise FloatingPointError(f"step {step}: the {name}'s loss is {float(total)}; lower its learning rate")
        return {
            "step": step,
            **{f"{name}_loss": float(sums[name]) / since if name in sums else None for name in ("reader", "retriever")},
            "hr_at_5": self.validation_hit_rate(),
            "questions_per_second": round(speed, 3),
            "seconds": round(seconds, 1),
        }

    def save(self, folder: str | Path) -> None:
        """Write what was trained, ``reader/`` and ``retriever/``.

        The last refresh's shards stay behind for whoever embeds the corpus with this retriever next.
        """
        for name, (module, _) in self.parts.items():
            module.save(Path(folder) / name)
        if "retriever" in self.trained:
            index.leave(self.shard_folder, Path(folder) / "retriever", self.retrieval)

    def forget(self) -> None:
        """Drop the state, last of all: a job killed before that has its outputs deleted and needs it."""
        shutil.rmtree(self.state.folder, ignore_errors=True)
