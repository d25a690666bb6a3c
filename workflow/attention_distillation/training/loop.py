"""The loop: retrieve, read, distil, step; at their own times refresh, validate, log and save.

It knows readers and signals by their interface alone. One rule covers every experiment: whatever is named in
``train`` is stepped, and the retriever learns from the ``signal``.

Every random draw of step n comes from (seed, n), so that a run that was stopped goes on as if it had not been, and
the order of a question's passages from its own number too, so that no split of a batch changes it.

With a fixed retriever and a decoder-only reader nothing in a step waits for the GPU: a thread makes the next batch's
prompts meanwhile, and losses are looked at a step late. A trained retriever must find its passages first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..files import InputError, write_jsonl
from ..models.readers import Encoded, Reader
from ..models.readers.adapters import add_adapters
from ..models.retriever import Retriever
from ..models.weights import cast
from ..settings import Adapter, Distillation, Retrieval, Training
from . import measuring
from .context import Material, context_rows, rng_of, target_answer
from .live_index import LiveIndex
from .losses import Losses
from .optimiser import Optimiser
from .replicas import Replicas
from .schedule import ahead, batches, rate
from .signals import GATES, RECORDED, Measured, Shown, dropout_off, kl, retriever_log_distribution, target
from .state import Progress, State

PARTS = ("reader", "retriever")


@dataclass(frozen=True)
class Part:
    """What is read at once: questions ``rows`` (n,), their ``passages`` (n, k) in the prompt's order with their texts,
    the answers to learn, tokens."""

    rows: np.ndarray
    passages: np.ndarray
    texts: list[list[tuple[str, str]]]
    answers: list[str]
    encoded: Encoded


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
        folder: the run's folder: ``log.jsonl`` and the state are written there.
        identity: what a saved state belongs to (:class:`state.State`).
        save_seconds: between two saved states; beside those at each refresh and at the end.
        device: of both models; with several replicas each has its own.
        dtype: what the models compute in; weights, moments and losses are summed up in float32.
        replicas: who shares each batch.
        gold: for ``context: gold``, an answer-bearing passage for each training question, -1 where there is none.
        adapter: of a reader that is trained by LoRA; None: all its weights learn.
    """

    def __init__(
        self, reader: Reader, retriever: Retriever, *, trained: Sequence[str], signal: str, material: Material,
        training: Training, distillation: Distillation, retrieval: Retrieval, seed: int, folder: str | Path,
        identity: Mapping[str, str], save_seconds: float = 600, device: str = "cpu",
        dtype: torch.dtype = torch.float32, replicas: Replicas | None = None, gold: np.ndarray | None = None,
        adapter: Adapter | None = None, progress: bool = True,
    ) -> None:  # fmt: skip
        self.reader, self.retriever = reader.to(device), retriever.to(device)
        self.trained, self.signal, self.material = set(trained), signal, material
        self.training, self.distillation, self.retrieval = training, distillation, retrieval
        self.seed, self.folder, self.save_seconds = seed, Path(folder), save_seconds
        self.device, self.gold, self.bar_shown = device, gold, progress
        self.on_gpu, self.replicas = torch.device(device).type == "cuda", replicas or Replicas()
        self.modules = {}
        for name, module in zip(PARTS, (self.reader, self.retriever), strict=True):
            module.requires_grad_(name in self.trained).train(name in self.trained)
            if name in self.trained:
                self.modules[name] = module
            else:
                cast(module, dtype)
        if adapter is not None:
            add_adapters(self.reader.model, adapter, int(rng_of(seed, 7).integers(2**63)))
        self.optimiser = Optimiser(
            self.modules, dtype=dtype, fused=self.on_gpu, epsilon=training.epsilon,
            weight_decay=training.weight_decay, clip_norm=training.clip_norm, replicas=self.replicas,
        )  # fmt: skip
        self.teaches = "retriever" in self.trained
        self.index = LiveIndex(self.retriever, material, retrieval, self.folder, device, self.replicas)
        self.gate = GATES.get(distillation.skip) if self.teaches else None
        self.losses = Losses([*self.modules, *(["skipped"] if self.gate else [])], self.replicas, self._ids)
        self.state, self.progress = State(self.folder, identity), Progress()
        self._question_tokens = {
            split: retriever.question.tokenise([q.question for q in material.questions[split]])
            for split in ("train", "dev")
        }

    # -------------------------------------------------------------- the run

    def run(self) -> list[dict]:
        """Train from the start or from the last state on; returns the log rows (of replica 0).

        Raises:
            InputError: a loss or a weight is no number, or a state's index is gone.
        """
        training = self.training
        self._resume()
        self._refresh_and_log()
        order = batches(len(self.material.questions["train"]), training.batch_size, training.steps, self.seed)
        bar = tqdm(total=training.steps, initial=self.progress.step, desc="training", unit="step", mininterval=5,
                   disable=not self.bar_shown or self.replicas.rank > 0)  # fmt: skip
        for (step, rows), parts in self.ready(itertools.islice(enumerate(order), self.progress.step, None)):
            losses = self.step(rows, step, parts)
            self.progress.step = step + 1
            self.losses.add(self.progress.step, rows, losses, wish_to_save=self._save_is_late())
            if self._save_is_due():
                self._save()
            if self._refresh_and_log():
                bar.set_postfix({k: v for k, v in self.progress.log[-1].items() if k in ("hr_at_5", "reader_loss")})
            bar.update()
        bar.close()
        return self.progress.log

    def _resume(self) -> None:
        """Take up the last state and the index that it was searching, where there is one."""
        with self.replicas.one_first():
            self.progress = self.state.load(self.modules, self.optimiser)
        self.losses.begin(self.progress.sums, self.progress.since)
        done = self.progress.step
        if self.teaches and not self._due(self.training.refresh_every):
            self.index.reopen(done - done % self.training.refresh_every, done)
        self._watch = self._saved = time.monotonic()
        if done and not self.replicas.rank:  # Snakemake has deleted the log of a job that failed
            write_jsonl(self.folder / "log.jsonl", self.progress.log)

    def _refresh_and_log(self) -> bool:
        """Refresh, validate and log, each where it is time to; was there a row?

        A state is saved before it: a run that goes on from there does this again, to the same end.
        """
        training = self.training
        if self.teaches and self._due(training.refresh_every):
            self._stop_watch()
            self.index.refresh(self.progress.step)
            if measuring.is_needed(self.signal, self.distillation.tau_unit):
                self._measure()
            self._start_watch()
        validate = self._due(training.validate_every or training.refresh_every)
        if not validate and not self._due(training.log_every or training.refresh_every):
            return False
        self._stop_watch()
        self._write_row(self.validation() if validate else dict.fromkeys(("hr_at_5", "score_gap")))
        self._start_watch()
        return True

    def _due(self, every: int) -> bool:
        """Is it time for what is done at the start, after every so many steps, and at the end?"""
        return self.progress.step % every == 0 or self.progress.step == self.training.steps

    def _stop_watch(self) -> None:
        """Stop the watch that times steps; the GPU has then computed them all."""
        self.losses.settle()
        now = time.monotonic()
        self.progress.busy += now - self._watch
        self.progress.seconds += now - self._watch
        self._watch = now

    def _start_watch(self) -> None:
        """Time steps again; what was done meanwhile is the run's time, but not theirs."""
        now = time.monotonic()
        self.progress.seconds += now - self._watch
        self._watch = now

    def _write_row(self, measured: dict[str, float | None]) -> None:
        """Log the losses' means since the last row and how well the retriever finds; replica 0 writes."""
        progress, means = self.progress, self.losses.means()
        speed = self.losses.since * self.training.batch_size / progress.busy if progress.busy else 0.0
        row = {
            "step": progress.step,
            **{f"{name}_loss": means.get(name) for name in PARTS},
            **({"skipped": means["skipped"]} if "skipped" in means else {}),
            **measured,
            "questions_per_second": round(speed, 3),
            "seconds": round(progress.seconds, 1),
        }
        progress.log.append(row)
        progress.busy = 0.0
        self.losses.begin()
        if not self.replicas.rank:
            write_jsonl(self.folder / "log.jsonl", progress.log)

    # -------------------------------------------------------------- the state

    def _save_is_late(self) -> bool:
        return not self.replicas.rank and time.monotonic() - self._saved >= self.save_seconds

    def _save_is_due(self) -> bool:
        """At a refresh the index of the last state is overwritten, so there must be a new one (:mod:`live_index`)."""
        refresh = self.teaches and self._due(self.training.refresh_every)
        return self.losses.save_wished or refresh or self.progress.step == self.training.steps

    def _save(self) -> None:
        """Save the state after this step, by replica 0.

        Raises:
            InputError: a weight is no number; the last state is kept.
        """
        self._stop_watch()
        self.losses.save_wished = False
        self.progress.sums = {name: float(total) for name, total in self.losses.sums.items()}
        self.progress.since = self.losses.since
        if not self.optimiser.finite():
            raise InputError(
                f"step {self.progress.step}: a weight is no number; lower the learning rate or set clip_norm. The last "
                "state that was saved is of a step before, and is kept."
            )
        if not self.replicas.rank:
            self.state.save(self.progress, self.modules, self.optimiser)
        self._saved = time.monotonic()
        self._start_watch()

    def save(self, folder: str | Path) -> None:
        """Write what was trained, ``reader/`` and ``retriever/``."""
        for name, module in self.modules.items():
            with self.optimiser.exact(name):
                module.save(Path(folder) / name)

    def retrieve(self, split: str, path: str | Path) -> None:
        """Write what the trained retriever finds for a split, in the index of the last refresh."""
        self.index.retrieve([question.question for question in self.material.questions[split]], path)

    # -------------------------------------------------------------- retrieval

    def retrieved(self, split: str, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Scores (None of a fixed retriever) and passages for ``rows`` of a split, (questions, k), best first."""
        if not self.teaches:
            return None, self.material.retrieved[split][rows]
        return self.index.search([self._question_tokens[split][row] for row in rows])

    def validation(self) -> dict[str, float | None]:
        """HR@k on the validation sample with index and retriever as they are, and how far its scores lie apart."""
        count = min(self.training.validation_questions, len(self.material.questions["dev"]))
        scores, passages = self.retrieved("dev", np.arange(count))
        gap = None if scores is None else float((scores[:, 0] - scores[:, -1]).mean())
        return {"hr_at_5": self.material.hit_rate("dev", passages), "score_gap": gap}

    # -------------------------------------------------------------- one step

    def ready(self, steps: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple]:
        """Steps with their parts, made one step ahead where no weight decides what they hold."""
        if self.teaches:
            return ((item, None) for item in steps)
        return ahead(lambda item: self.prepared(item[1], item[0]), steps)

    def prepared(self, rows: np.ndarray, step: int) -> list[Part]:
        """This replica's share of a batch, retrieved and tokenised, in the parts that it is to be read in."""
        own = self.replicas.share(rows)
        return [self._part(part, step) for part in np.array_split(own, min(self.training.accumulate, len(own)))]

    def _part(self, rows: np.ndarray, step: int) -> Part:
        questions = [self.material.questions["train"][row] for row in rows]
        passages = np.concatenate(
            [
                context_rows(
                    best[None], [question], self.material, self.distillation, rng_of(self.seed, 2, step, int(row)),
                    None if self.gold is None else self.gold[row : row + 1],
                )
                for row, question, best in zip(rows, questions, self.retrieved("train", rows)[1], strict=True)
            ]
        )  # fmt: skip
        texts, answers = self.material.texts(passages), [target_answer(q, self.seed) for q in questions]
        encoded = self.reader.encode([q.question for q in questions], texts, answers)
        return Part(rows, passages, texts, answers, encoded.pinned() if self.on_gpu else encoded)

    def shown(self, part: Part) -> Shown:
        """A part as the reader reads it, once, and only where reader or signal need that."""
        encoded, output = part.encoded.to(self.device), None
        recorded = self.signal in RECORDED
        if recorded or "reader" in self.trained or (self.gate and self.distillation.skip == "low_gain"):
            output = self.reader(
                encoded, record=recorded, value_norm=self.distillation.value_norm, check=not self.on_gpu
            )
        return Shown(
            self.reader, encoded, output, [self.material.questions["train"][row] for row in part.rows], part.answers,
            part.rows, part.passages, part.texts, self.distillation, self.seed, Measured(**self.progress.measured),
        )  # fmt: skip

    def _losses(self, part: Part) -> dict[str, torch.Tensor]:
        """The losses of a part of a batch, means over its questions; with a gate, the share that it leaves out too."""
        with torch.set_grad_enabled("reader" in self.trained):
            shown = self.shown(part)
        losses = {}
        if "reader" in self.trained:
            losses["reader"] = shown.output.answer_loss.mean()
        if self.teaches:
            asked = self.retriever.question([self._question_tokens["train"][row] for row in part.rows])
            tokens = self.material.tokens[part.passages.ravel()]
            passages = self.retriever.passage(tokens).view(*part.passages.shape, -1)
            temperature = self.retriever.temperature(self.distillation.theta)
            log_distribution = retriever_log_distribution(asked, passages, temperature)
            learnt = self.gate(shown) if self.gate else None
            losses["retriever"] = kl(target(self.signal, shown), log_distribution, learnt)
            if learnt is not None:
                losses["skipped"] = 1 - learnt.float().mean()
        return losses

    def _measure(self) -> None:
        """Measure on training questions what the signal rests on, with reader and retriever as they are."""
        count = min(self.distillation.measured_questions, len(self.material.questions["train"]))
        chosen = np.sort(rng_of(self.seed, 6).permutation(len(self.material.questions["train"]))[:count])
        with dropout_off(self.reader), torch.no_grad():
            parts = np.array_split(chosen, -(-count // self.training.batch_size))
            batches = [self.shown(self._part(rows, self.progress.step)) for rows in parts]
            self.progress.measured = asdict(measuring.measure(self.signal, batches))

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
        self.optimiser.zero_grad()
        for part in parts:
            losses = self._losses(part)
            share = len(part.rows) / len(rows)
            (sum(losses[name] for name in self.modules) * share).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.detach() * share
            if len(parts) > 1:
                self.optimiser.gather()
        self.optimiser.step({name: rate(self.training, name, step) for name in self.modules})
        return totals

    def _ids(self, rows: np.ndarray) -> list[str]:
        return [self.material.questions["train"][row].id for row in rows]
