"""The loop: retrieve, read, distil, refresh; a log row at each refresh, a checkpoint to go on from.

It knows readers and signals by their interface alone. One rule covers every experiment: whatever is named in
``train`` gets an optimiser, and the retriever learns from the ``signal``.

Every random draw of step n comes from (seed, n), so that a run that was stopped goes on as if it had not been, and
the order of a question's passages from its own number too, so that no split of a batch changes it.

With a fixed retriever and a decoder-only reader nothing in a step waits for the GPU: a thread makes the next batch's
prompts meanwhile, and losses are read back at log rows. A trained retriever must find its passages first.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..files import write_json, write_jsonl
from ..models.readers import Encoded, Reader
from ..models.retriever import Retriever
from ..models.weights import cast, load_model
from ..retrieval import index
from ..settings import Distillation, Retrieval, Training
from .context import Material, context_rows, rng_of, target_answer
from .optimiser import Adam
from .replicas import Replicas
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


def ahead(make: Callable, items: Iterable) -> Iterator[tuple]:
    """``(item, make(item))`` for each item in order; a thread makes the next one meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for item in items:
            following = item, thread.submit(make, item)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


@dataclass(frozen=True)
class Part:
    """What is read at once: questions ``rows`` (n,), their passages ``found`` (n, k) in the prompt's order, tokens."""

    rows: np.ndarray
    found: np.ndarray
    encoded: Encoded


# ------------------------------------------------------------------ state to go on from


class State:
    """A folder outside the declared outputs, so that a failed job keeps it; replaced whole or not at all.

    Weights (in float32, whatever the model computes in) and optimiser moments are safetensors; the rest is JSON.
    Nothing is pickled.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, step: int, parts: dict[str, tuple[torch.nn.Module, Adam]], facts: dict) -> None:
        """Write the state after ``step`` steps."""
        from safetensors.torch import save_file

        part = self.folder.with_name(f".{self.folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, (module, optimizer) in parts.items():
            with optimizer.exact():
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

    def load(self, parts: dict[str, tuple[torch.nn.Module, Adam]], config_hash: str) -> dict | None:
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
            weights = load_model(type(module.model), self.folder / name, **_no_pooling(module))
            with optimizer.exact():
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
        device: of both models; with several replicas each has its own.
        dtype: what the models compute in; weights, moments and losses are summed up in float32.
        replicas: who shares each batch.
        gold: for ``context: gold``, an answer-bearing passage for each training question, -1 where there is none.
    """

    def __init__(
        self, reader: Reader, retriever: Retriever, *, trained: Sequence[str], signal: str, material: Material,
        training: Training, distillation: Distillation, retrieval: Retrieval, seed: int, folder: str | Path,
        config_hash: str, device: str = "cpu", dtype: torch.dtype = torch.float32, replicas: Replicas | None = None,
        gold: np.ndarray | None = None, progress: bool = True,
    ) -> None:  # fmt: skip
        self.reader, self.retriever = reader.to(device), retriever.to(device)
        self.trained, self.signal, self.material = set(trained), signal, material
        self.training, self.distillation, self.retrieval = training, distillation, retrieval
        self.seed, self.folder, self.config_hash = seed, Path(folder), config_hash
        self.device, self.gold, self.progress = device, gold, progress
        self.on_gpu, self.replicas = torch.device(device).type == "cuda", replicas or Replicas()
        modules = {"reader": self.reader, "retriever": self.retriever}
        for name, module in modules.items():
            module.requires_grad_(name in self.trained).train(name in self.trained)
        self.parts = {
            name: (module, Adam(module, training.rate_of(name), dtype=dtype, fused=self.on_gpu,
                                reduce=self.replicas.add))
            for name, module in modules.items()
            if name in self.trained
        }  # fmt: skip
        for name, module in modules.items():
            if name not in self.trained:
                cast(module, dtype)
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
        self._index = None  # at paper scale 32 GB of the GPU, which the next one needs
        self.retriever.eval()
        paths = self._shards()
        for shard in self.replicas.share(range(len(paths))):
            bounds = index.shard_bounds(len(self.material.tokens), int(shard), len(paths))
            index.embed_shard(
                self.retriever, self.material.tokens, bounds, paths[shard],
                batch_tokens=self.retrieval.batch_tokens, dtype=self.retrieval.dtype, progress=False,
            )  # fmt: skip
        self.replicas.wait()
        self._index = index.build(index.open_shards(paths), self.retrieval, self.device)
        self.retriever.train("retriever" in self.trained)

    def _shards(self) -> list[Path]:
        return [self.shard_folder / f"shard-{shard}.npy" for shard in range(self.retrieval.shards)]

    def retrieved(self, split: str, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Scores (None of a fixed retriever) and passages for ``rows`` of a split, (questions, k), best first."""
        if "retriever" not in self.trained:
            return None, self.material.retrieved[split][rows]
        questions = self.retriever.embed([self._question_tokens[split][row] for row in rows])
        return self._index.search(questions, self.retrieval.k)

    def validation(self) -> dict[str, float | None]:
        """HR@k on the validation sample with index and retriever as they are, and how far its scores lie apart."""
        count = min(self.training.validation_questions, len(self.material.questions["dev"]))
        scores, found = self.retrieved("dev", np.arange(count))
        gap = None if scores is None else float((scores[:, 0] - scores[:, -1]).mean())
        return {"hr_at_5": self.material.hit_rate("dev", found), "score_gap": gap}

    # -------------------------------------------------------------- one step

    def prepared(self, rows: np.ndarray, step: int) -> list[Part]:
        """This replica's share of a batch, retrieved and tokenised, in the parts that it is to be read in."""
        own = self.replicas.share(rows)
        return [self._part(part, step) for part in np.array_split(own, min(self.training.accumulate, len(own)))]

    def _part(self, rows: np.ndarray, step: int) -> Part:
        questions = [self.material.questions["train"][row] for row in rows]
        found = np.concatenate(
            [
                context_rows(
                    best[None], [question], self.material, self.distillation, rng_of(self.seed, 2, step, int(row)),
                    None if self.gold is None else self.gold[row : row + 1],
                )
                for row, question, best in zip(rows, questions, self.retrieved("train", rows)[1], strict=True)
            ]
        )  # fmt: skip
        encoded = self.reader.encode(
            [q.question for q in questions],
            self.material.texts(found),
            [target_answer(q, self.seed) for q in questions],
        )
        return Part(rows, found, encoded.pinned() if self.on_gpu else encoded)

    def _losses(self, part: Part) -> dict[str, torch.Tensor]:
        """The losses of a part of a batch, means over its questions."""
        encoded, losses = part.encoded.to(self.device), {}
        with torch.set_grad_enabled("reader" in self.trained):
            output = self.reader(
                encoded, record=self.signal == "attention", value_norm=self.distillation.value_norm,
                check=not self.on_gpu,
            )  # fmt: skip
        if "reader" in self.trained:
            losses["reader"] = output.answer_loss.mean()
        if "retriever" in self.trained:
            target = SIGNALS[self.signal](self.reader, encoded, output, self.distillation, self.retrieval.k)
            asked = self.retriever([self._question_tokens["train"][row] for row in part.rows])
            passages = self.retriever(self.material.tokens[part.found.ravel()]).view(*part.found.shape, -1)
            losses["retriever"] = kl(target, retriever_log_distribution(asked, passages, self.distillation.theta))
        return losses

    def _rate(self, step: int, part: str) -> float:
        """Linear warm-up, then linear decay."""
        highest, warmup, steps = self.training.rate_of(part), self.training.warmup_steps, self.training.steps
        if step < warmup:
            return highest * (step + 1) / warmup
        return highest * max(0.0, (steps - step) / max(1, steps - warmup))

    def step(self, rows: np.ndarray, step: int, parts: Sequence[Part] | None = None) -> dict[str, torch.Tensor]:
        """One optimiser step of whatever is trained, on a batch in ``accumulate`` parts.

        Args:
            rows: the whole batch, of which this replica takes its share.
            parts: that share, where :meth:`prepared` has made it already.

        Returns:
            this replica's part of each loss, detached; over all replicas they add up to the batch's mean.
        """
        parts = self.prepared(rows, step) if parts is None else parts
        torch.manual_seed(int(rng_of(self.seed, 4, step, self.replicas.rank).integers(2**63)))
        totals: dict[str, torch.Tensor] = {}
        for _, optimizer in self.parts.values():
            optimizer.zero_grad()
        for part in parts:
            losses = self._losses(part)
            share = len(part.rows) / len(rows)
            (sum(losses.values()) * share).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.detach() * share
            if len(parts) > 1:
                for _, optimizer in self.parts.values():
                    optimizer.gather()
        for name, (_, optimizer) in self.parts.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step, name)
            optimizer.step()
        return totals

    # -------------------------------------------------------------- the run

    def run(self) -> list[dict]:
        """Train from the start or from the last checkpoint; returns the log rows (of replica 0)."""
        training = self.training
        with self.replicas.one_first():
            facts = self.state.load(self.parts, self.config_hash)
        done = facts["step"] if facts else 0
        if "retriever" in self.trained:
            if done:
                self.refresh()
            else:
                self._index = index.build(self.material.shards, self.retrieval, self.device)
        self.log = facts["log"] if facts else []
        spent = self.log[-1]["seconds"] if self.log else 0.0
        if not done:
            self._write_row(0, {}, 0, 0.0, 0.0)
        elif not self.replicas.rank:  # a job that was killed after its last step finds its log deleted and none to come
            write_jsonl(self.folder / "log.jsonl", self.log)
        order = batches(len(self.material.questions["train"]), training.batch_size, training.steps, self.seed)
        steps = itertools.islice(enumerate(order), done, None)
        started = time.monotonic()
        bar = tqdm(total=training.steps, initial=done, desc="training", unit="step", mininterval=5,
                   disable=not self.progress or self.replicas.rank > 0)  # fmt: skip
        while done < training.steps:  # from one refresh to the next
            begun, sums = time.monotonic(), {}
            count = min(training.refresh_every - done % training.refresh_every, training.steps - done)
            for (step, rows), parts in self.ready(itertools.islice(steps, count)):
                for name, loss in self.step(rows, step, parts).items():
                    sums[name] = sums.get(name, 0) + loss
                bar.update()
            done += count
            self.replicas.add(list(sums.values()))
            self._check(done, sums)
            speed = count * training.batch_size / (time.monotonic() - begun)
            if "retriever" in self.trained:
                self.refresh()
            self._write_row(done, sums, count, speed, spent + time.monotonic() - started)
            if not self.replicas.rank:
                bar.set_postfix({k: v for k, v in self.log[-1].items() if k in ("hr_at_5", "reader_loss")})
                self.state.save(done, self.parts, {"config_hash": self.config_hash, "log": self.log})
        bar.close()
        return self.log

    def ready(self, steps: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple]:
        """Steps with their parts, made one step ahead where no weight decides what they hold."""
        if "retriever" in self.trained:
            return ((item, None) for item in steps)
        return ahead(lambda item: self.prepared(item[1], item[0]), steps)

    def _check(self, step: int, sums: dict[str, torch.Tensor]) -> None:
        """The one place where losses are waited for, on all replicas alike.

        Raises:
            FloatingPointError: a loss is no number: nothing after it would mean anything.
        """
        for name, total in sums.items():
            if not torch.isfinite(total):
                raise FloatingPointError(f"step {step}: the {name}'s loss is {float(total)}; lower its learning rate")

    def _write_row(self, step: int, sums: dict, since: int, speed: float, seconds: float) -> None:
        """Log the losses' means over ``since`` steps and how well the retriever finds; replica 0 does."""
        if self.replicas.rank:
            return
        row = {
            "step": step,
            **{f"{name}_loss": float(sums[name]) / since if name in sums else None for name in ("reader", "retriever")},
            **self.validation(),
            "questions_per_second": round(speed, 3),
            "seconds": round(seconds, 1),
        }
        self.log.append(row)
        write_jsonl(self.folder / "log.jsonl", self.log)

    def save(self, folder: str | Path) -> None:
        """Write what was trained, ``reader/`` and ``retriever/``."""
        for name, (module, optimizer) in self.parts.items():
            with optimizer.exact():
                module.save(Path(folder) / name)

    def retrieve(self, split: str, path: str | Path) -> None:
        """Write what the trained retriever finds for a split, in the index of the last refresh."""
        asked = [question.question for question in self.material.questions[split]]
        index.retrieve(self._index, index.open_shards(self._shards()), self.retriever, asked, self.retrieval, path)

    def forget(self) -> None:
        """Drop state and index, last of all: a job killed before that has its outputs deleted and needs them."""
        for folder in (self.state.folder, self.shard_folder):
            shutil.rmtree(folder, ignore_errors=True)
