"""What a run would cost: disk, memory and hours of every stage, by arithmetic on its config before anything is run.

Hours come from a roofline: operations ÷ (the device's peak × a stated efficiency) + bytes ÷ its bandwidth. They are
estimates: nothing here was timed. Bytes are those of weights, moments and the index. Activations, the start of kernels,
loading and saving are not counted, so a real run takes longer.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import yaml
from tabulate import tabulate

from ..jobs import room
from ..retrieval.index import BLOCK_ROWS, QUESTIONS_AT_ONCE, SEARCH_BYTES
from ..settings import UNTRAINED, Run, read_scale
from .shapes import Shape
from .workload import QUESTION_TOKENS, REFERENCE, Corpus, Workload

CUDA_BYTES = 1e9
"""GPU memory of a process that holds no model yet."""
LAYER_BYTES = 34
"""Activations that a layer keeps for the backward, bytes a token and value of the width, in bfloat16."""
ADAM = 28
"""Bytes of a step of Adam a weight: weight, gradient and two moments read, all but the gradient written, float32."""


@dataclass(frozen=True)
class Device:
    """A row of ``workflow/reference/devices.yaml``; ``tflops`` by precision, 10^12/s; memory in 10^9 bytes."""

    title: str
    kind: str
    tflops: dict[str, float]
    bandwidth: float
    memory: float
    efficiency: float
    origin: str

    def seconds(self, flops: float, traffic: float, precision: str) -> float:
        """The roofline: ``flops`` operations and ``traffic`` bytes, one after the other."""
        return flops / (self.tflops[precision] * 1e12 * self.efficiency) + traffic / (self.bandwidth * 1e12)


def device(name: str) -> Device:
    """A device of the table; :class:`settings.Compute` has checked the name."""
    return Device(**yaml.safe_load((REFERENCE / "devices.yaml").read_text(encoding="utf-8"))[name])


@dataclass(frozen=True)
class Stage:
    """One line of a plan: bytes, and seconds where a model runs (None: no model does)."""

    name: str
    disk: float = 0
    kept: float = 0
    host: float = 0
    gpu: float = 0
    seconds: float | None = None
    step: float | None = None
    paper_hours: float | None = None


def weight_traffic(precision: str, *, trained: bool, clipped: bool = False) -> int:
    """Bytes a weight that a forward moves, or a whole training step (docs/measurements/optimiser.md).

    A step of a trained bfloat16 model reads the weights in forward and backward (2 + 2), writes the gradient (2), casts
    it to float32 (2 + 4), runs Adam on the masters and rounds them (4 + 2). A model that is not trained is cast once
    for good. A clipped gradient is cast once more and read for its norm (2 + 4 + 4; in float32 only read), then scaled
    (4 + 4).
    """
    if precision == "float32":
        return 4 + 4 + 4 + ADAM + (12 if clipped else 0) if trained else 4
    return 4 + 2 + 6 + ADAM + 6 + (18 if clipped else 0) if trained else 2


class Planner(Workload):
    """The plan of a run on a device.

    Args:
        run: config and scale.
        on: the device.
        results: the scale's folder, to read off what is there already.
    """

    def __init__(self, run: Run, on: Device, results: str | Path) -> None:
        super().__init__(run, results)
        self.device, self.retrieval = on, run.scale.retrieval
        self.precision = run.scale.compute.precision if on.kind == "gpu" else "float32"

    # -------------------------------------------------------------- what things take

    def _seconds(self, flops: float, traffic: float) -> float:
        return self.device.seconds(flops, traffic, self.precision)

    def index_bytes(self, corpus: Corpus) -> float:
        """Size of the index in the form in which it is searched."""
        if self.retrieval.index == "ivfpq":
            return corpus.passages * (self.retrieval.code_bytes + 8)
        dtype = "float16" if self.device.kind == "gpu" else self.retrieval.dtype  # bfloat16 on a GPU: as large
        return room.shard_bytes(corpus.passages, self.shape["retriever"].size, dtype)

    def embedding(self, corpus: Corpus) -> float:
        """Seconds to embed the corpus once."""
        shape = self.shape["retriever"]
        tokens = corpus.passages * corpus.tokens
        batches = math.ceil(tokens / self.retrieval.batch_tokens)
        traffic = batches * shape.parameters * weight_traffic(self.precision, trained=False)
        return self._seconds(shape.read_flops(tokens, corpus.tokens), traffic)

    def searching(self, corpus: Corpus, questions: int) -> float:
        """Seconds to embed questions and search for them, as many in one call as memory allows."""
        shape, share = self.shape["retriever"], 1.0
        if self.retrieval.index == "ivfpq":
            share = min(1.0, self.retrieval.probes / self.retrieval.lists)
        at_once = QUESTIONS_AT_ONCE if self.device.kind == "gpu" else questions
        calls, scores = math.ceil(questions / at_once), questions * corpus.passages * share
        flops = questions * shape.read_flops(QUESTION_TOKENS, QUESTION_TOKENS) + 2 * scores * shape.size
        cast = shape.parameters * weight_traffic(self.precision, trained=False)
        return self._seconds(flops, calls * (share * self.index_bytes(corpus) + cast) + 2 * 2 * scores)

    def _prompt(self, corpus: Corpus) -> float:
        """Tokens of one passage's prompt."""
        return min(self.scale.prompt.passage_max_tokens, corpus.tokens + QUESTION_TOKENS)

    def _read(self, experiment: str, corpus: Corpus) -> tuple[float, float]:
        """Operations of a reader's forward for one question with its answer, and the tokens that it reads."""
        shape, k = self.shape[self.scale.reader_kind(experiment)], self.retrieval.k
        closed = self.scale.distillation_of(experiment).context == "none"
        context = QUESTION_TOKENS if closed else k * self._prompt(corpus)
        answer = self.scale.prompt.answer_max_tokens
        fused = self.scale.experiments[experiment].architecture == "encoder_decoder"
        span = min(self._prompt(corpus), context) if fused else context
        return shape.read_flops(context, span) + shape.answer_flops(answer, context), context + answer

    def _learns(self, experiment: str) -> dict[str, int]:
        """How many weights of reader and retriever learn; of a reader trained by LoRA at most."""
        row = self.scale.experiments[experiment]
        reader = self.shape[self.scale.reader_kind(experiment)]
        counts = {"reader": reader.parameters, "retriever": self.shape["retriever"].parameters}
        if row.train_adapter:
            counts["reader"] = row.train_adapter.r * reader.linear_ends
        return {part: counts[part] if part in row.train else 0 for part in counts}

    def step_seconds(self, experiment: str, dataset: str) -> float:
        """Seconds of one training step, refreshes left out."""
        row, corpus = self.scale.experiments[experiment], self.corpora[self.scale.datasets[dataset].corpus]
        training = self.scale.training_of(experiment, dataset)
        batch, clipped = training.batch_size, training.clip_norm is not None
        reader, retriever, k = self.shape[self.scale.reader_kind(experiment)], self.shape["retriever"], self.retrieval.k
        trained, learns = "reader" in row.train, self._learns(experiment)["reader"]
        read, flops, traffic = batch * self._read(experiment, corpus)[0], 0.0, 0.0
        skip = self.scale.distillation_of(experiment).skip
        if trained or row.signal.startswith("attention") or skip == "low_gain":  # no other signal needs a reader
            flops += read * ((3 if trained else 1) + (row.signal == "attention_calibrated"))
            traffic += reader.parameters * weight_traffic(self.precision, trained=trained, clipped=clipped)
        if row.train_adapter:  # no gradient of the weights that stay, which forward and backward read
            flops -= read
            traffic = 2 * reader.parameters * weight_traffic(self.precision, trained=False)
            traffic += learns * weight_traffic(self.precision, trained=True, clipped=clipped)
        if row.signal == "perplexity":
            flops += batch * self._alone(experiment, corpus, k)
            traffic += reader.parameters * weight_traffic(self.precision, trained=False)
        if "retriever" not in row.train:
            return self._seconds(flops, traffic)
        flops += batch * 3 * retriever.read_flops(k * corpus.tokens + QUESTION_TOKENS, corpus.tokens)
        traffic += retriever.parameters * weight_traffic(self.precision, trained=True, clipped=clipped)
        return self._seconds(flops, traffic) + self.searching(corpus, batch)

    def _alone(self, experiment: str, corpus: Corpus, copies: float) -> float:
        """Operations to read ``copies`` prompts of one passage each, with the answer."""
        shape, prompt = self.shape[self.scale.reader_kind(experiment)], self._prompt(corpus)
        one = shape.read_flops(prompt, prompt) + shape.answer_flops(self.scale.prompt.answer_max_tokens, prompt)
        return copies * one

    # -------------------------------------------------------------- stages

    def download(self) -> Stage:
        """Everything that the sources table names for this run."""
        from ..data.table import read_sources, rows_for

        rows = read_sources(REFERENCE / "sources.csv")
        names = [self.scale.corpora[name].source for name in self.corpora]
        names += [self.scale.datasets[name].source for name in self.run.datasets]
        files = {row.filename: row.bytes for name in filter(None, names) for row in rows_for(rows, name)}
        models = sum(shape.download_bytes + shape.stored_bytes for shape in self.shape.values())
        total = sum(files.values()) + models  # as fetched (the hub's cache, a wheel), and as the scale's model
        return Stage("download", disk=total, kept=total)

    def prepare(self, name: str) -> Iterator[Stage]:
        """Passages, tokens and first indices of a corpus."""
        corpus, shape = self.corpora[name], self.shape["retriever"]
        tokens = room.token_bytes(corpus.passages, corpus.tokens, shape.vocabulary)
        yield Stage(f"corpus {name}", disk=corpus.arrow, kept=corpus.arrow, host=5e8)
        yield Stage(f"tokenise {name}", disk=tokens, kept=tokens, host=1e9)
        shards = room.shard_bytes(corpus.passages, shape.size, self.retrieval.dtype)
        batch = self.retrieval.batch_tokens * shape.width * LAYER_BYTES
        starts = {self.scale.origin(self.scale.experiments[run].retriever, "retriever") for run in self.needed}
        for origin in sorted(starts & set(UNTRAINED)):
            yield Stage(
                f"embed {name}, {origin} retriever", disk=shards, kept=shards,
                host=self._host(shape.parameters + BLOCK_ROWS * shape.size, batch),
                gpu=self._gpu(6 * shape.parameters + batch), seconds=self.embedding(corpus),
            )  # fmt: skip

    def _host(self, weights: float, activations: float) -> float:
        on_gpu = self.device.kind == "gpu"
        return room.process_memory(weights, on_gpu=on_gpu) + (0 if on_gpu else activations)

    def _gpu(self, held: float) -> float:
        return CUDA_BYTES + held if self.device.kind == "gpu" else 0

    def _reader_bytes(self, shape: Shape) -> float:
        """Of a reader that is not trained: in float32 while it is loaded and in bfloat16 then, or in few bits."""
        bits = self.scale.models.reader_bits
        few = shape.context_weights if bits else 0
        return 6 * (shape.parameters - few) + few * (bits or 0) / 8

    def search(self, dataset: str) -> Stage:
        """All questions with every retriever of the run."""
        corpus = self.corpora[self.scale.datasets[dataset].corpus]
        origins = {self.scale.origin(name, "retriever") for name in self.needed}
        trained = len(origins - set(UNTRAINED)) * len(self.run.seeds)
        times = len(origins & set(UNTRAINED)) + trained
        questions, shape = sum(self.questions(dataset).values()), self.shape["retriever"]
        held = SEARCH_BYTES + self.index_bytes(corpus)
        host = self._host(shape.parameters + 2 * BLOCK_ROWS * shape.size, 0)
        if self.retrieval.index == "ivfpq":
            host += self.index_bytes(corpus)
        retrievers = f"{times} retriever{'s' * (times > 1)}"
        return Stage(
            f"search {dataset}, {retrievers}", kept=0, host=host,
            gpu=self._gpu(6 * shape.parameters + held), seconds=times * self.searching(corpus, questions),
        )  # fmt: skip

    def train(self, experiment: str, dataset: str, seed: int) -> Stage:
        """One run."""
        row, training = self.scale.experiments[experiment], self.scale.training_of(experiment, dataset)
        corpus = self.corpora[self.scale.datasets[dataset].corpus]
        shape = {"reader": self.shape[self.scale.reader_kind(experiment)], "retriever": self.shape["retriever"]}
        saved, trained = sum(shape[part].parameters for part in row.train), sum(self._learns(experiment).values())
        adapted = shape["reader"].parameters if row.train_adapter else 0
        frozen = sum(part.parameters for part in shape.values()) - saved + adapted
        teaches = "retriever" in row.train
        shards = room.shard_bytes(corpus.passages, shape["retriever"].size, self.retrieval.dtype) if teaches else 0
        disk, kept = room.training_disk(trained, saved, shards)
        step = self.step_seconds(experiment, dataset)
        refreshes = math.ceil(training.steps / training.refresh_every)
        validations = math.ceil(training.steps / (training.validate_every or training.refresh_every))
        asked = min(training.validation_questions, self.questions(dataset)["dev"])
        beside = refreshes * self.embedding(corpus) + validations * self.searching(corpus, asked) if teaches else 0
        part = math.ceil(training.batch_size / training.accumulate)
        tokens = part * self._read(experiment, corpus)[1]
        activations = (
            LAYER_BYTES * tokens * shape["reader"].width * (shape["reader"].layers if "reader" in row.train else 1)
        )
        held = 18 * trained + 6 * frozen + activations
        if "reader" not in row.train:
            held += self._reader_bytes(shape["reader"]) - 6 * shape["reader"].parameters
        if training.accumulate > 1 or (training.clip_norm and self.scale.compute.gpus > 1):
            held += 4 * trained  # all float32 gradients at once (training.optimiser)
        if teaches:
            read = part * (self.retrieval.k * corpus.tokens + QUESTION_TOKENS)
            held += LAYER_BYTES * read * shape["retriever"].width * shape["retriever"].layers
            held += self.index_bytes(corpus) + SEARCH_BYTES
        on_gpu = self.device.kind == "gpu"
        host = room.training_memory(trained, frozen, on_gpu=on_gpu, adapted=adapted) + (0 if on_gpu else activations)
        return Stage(
            f"train {experiment}, {dataset}, seed {seed}", disk=disk, kept=kept, host=host, gpu=self._gpu(held),
            seconds=training.steps * step + beside, step=step,
            paper_hours=self._paper_hours(experiment, dataset, training.steps),
        )  # fmt: skip

    def evaluate(self, experiment: str, dataset: str, seed: int) -> Stage:
        """Answers to the test questions, and the dump of the sampled ones."""
        shape = self.shape[self.scale.reader_kind(experiment)]
        corpus = self.corpora[self.scale.datasets[dataset].corpus]
        asked, batch = self.questions(dataset)["test"], self.scale.compute.batch_size
        answer, analysis = self.scale.prompt.answer_max_tokens, self.scale.analysis
        flops, tokens = self._read(experiment, corpus)
        frozen = weight_traffic(self.precision, trained=False)
        calls = math.ceil(asked / batch)
        cache = 2 * shape.layers * shape.width * tokens * batch * (2 if self.precision == "bfloat16" else 4)
        traffic = calls * (frozen * (shape.parameters + answer * shape.answer_weights) + answer * cache)
        flops *= asked
        sampled = min(analysis.instances, asked)
        if self.scale.experiments[experiment].analysis == "attention":
            flops += sampled * self._read(experiment, corpus)[0]
            traffic += math.ceil(sampled / batch) * frozen * shape.parameters
        else:
            tokens_each = min(corpus.tokens, self._prompt(corpus)) if analysis.token_distribution == "occlusion" else 3
            copies = sampled * self.retrieval.k * tokens_each
            flops += self._alone(experiment, corpus, copies)
            traffic += copies / 256 * frozen * shape.parameters
        held = self._reader_bytes(shape) + cache + LAYER_BYTES * batch * tokens * shape.width
        return Stage(
            f"evaluate {experiment}, {dataset}, seed {seed}",
            kept=sampled * self.retrieval.k * self._prompt(corpus) * 12, disk=0,
            host=self._host(shape.parameters, held), gpu=self._gpu(held), seconds=self._seconds(flops, traffic),
        )  # fmt: skip

    def _paper_hours(self, experiment: str, dataset: str, steps: int) -> float | None:
        """Hours for so many steps at the paper's own hours a step; None unless its own models are trained."""
        kind, papers = self.scale.reader_kind(experiment), read_scale("paper")["models"]
        if getattr(self.scale.models, kind) != papers[kind]:
            return None
        source = self.scale.datasets[dataset].source
        with open(REFERENCE / "hours.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if (row["experiment"], row["dataset"]) == (experiment, source):
                    published = read_scale("paper")["experiments"][experiment]["training"][source]
                    return steps * float(row["hours_on_one_a100"]) / published["steps"]
        return None

    def stages(self) -> list[Stage]:
        """Every stage of the run, in the order of the pipeline."""
        runs = list(product(self.run.datasets, self.needed, self.run.seeds))
        return [
            self.download(),
            *(stage for name in self.corpora for stage in self.prepare(name)),
            *(self.train(name, data, seed) for data, name, seed in runs if self.scale.experiments[name].train),
            *(self.search(data) for data in self.run.datasets),
            *(self.evaluate(name, data, seed) for data, name, seed in runs if name in self.run.experiments),
        ]


def total(stages: list[Stage]) -> Stage:
    """All stages one after another: what they keep and take adds up; of what they give back the largest counts."""
    kept = sum(stage.kept for stage in stages)
    return Stage(
        "total, one after another",
        disk=kept + max(max(stage.disk - stage.kept, 0) for stage in stages), kept=kept,
        host=max(stage.host for stage in stages), gpu=max(stage.gpu for stage in stages),
        seconds=sum(stage.seconds or 0 for stage in stages),
        paper_hours=sum(stage.paper_hours or 0 for stage in stages) or None,
    )  # fmt: skip


# ------------------------------------------------------------------ what people read


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    if count < 1e5:
        return "" if not count else "< 0.1 MB"
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e6:.1f} MB"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def render(planner: Planner, markdown: bool = False) -> str:
    """The plan as a table with what it rests on, for the terminal or as Markdown."""
    on = planner.device
    gpu = on.kind == "gpu"
    stages = planner.stages()
    lines = [*stages, replace(total(stages), name="**total, one after another**") if markdown else total(stages)]
    paper = any(stage.paper_hours for stage in stages)
    rows = []
    for stage in lines:
        row = {"stage": stage.name, "disk": size(max(stage.disk, stage.kept)), "kept": size(stage.kept)}
        row |= {"memory": size(stage.host)} | ({"GPU memory": size(stage.gpu)} if gpu else {})
        row["a step"] = f"{1000 * stage.step:.1f} ms" if stage.step else ""
        row["GPU time" if gpu else "core time"] = duration(stage.seconds)
        if paper:
            row["paper"] = f"{stage.paper_hours:.0f} h" if stage.paper_hours else ""
        rows.append(row)
    align = ["left", *["right"] * (len(rows[0]) - 1)]
    table = tabulate(rows, headers="keys", tablefmt="pipe" if markdown else "rounded_outline", colalign=align)
    title = f"Plan of scale '{planner.scale.name}' on {on.title}"
    sentences = [f"- {note}" for note in notes(planner, stages)]
    return "\n".join([f"# {title}" if markdown else title, "", table, "", *sentences, ""])


def notes(planner: Planner, stages: list[Stage]) -> list[str]:
    """What a reader of the table must know."""
    on, precision = planner.device, planner.precision
    sentences = [
        "Times are estimates from a roofline, NOT measurements: operations ÷ "
        f"({on.tflops[precision]:g} TFLOP/s in {precision} × efficiency {on.efficiency:g}) + bytes ÷ "
        f"({on.bandwidth:g} TB/s). The device's figures: {on.origin}; the efficiency is assumed.",
        "Not counted: starting kernels and jobs, activations' traffic, loading, saving, downloading, and the stages "
        "without a model (corpus, tokenising, tables). Expect more.",
        "disk: while the stage runs; kept: what it leaves. The total is for stages one after another, and its disk and "
        "memory are the most that is needed at a time; runs side by side need theirs side by side.",
    ]
    for name, corpus in planner.corpora.items():
        how = "counted" if corpus.known else "stated or assumed; counted once the corpus is tokenised"
        sentences.append(f"Corpus {name}: {corpus.passages:,} passages of {corpus.tokens:.0f} tokens ({how}).")
    if any(stage.paper_hours for stage in stages):
        sentences.append("paper: the paper's own hours on an A100 (Appendix E), for as many steps as here.")
    sentences.append(
        "A run that is killed goes on from its last state, which is saved every "
        f"{duration(planner.scale.compute.save_seconds)} (compute.save_seconds) and at each refresh."
    )
    short = [stage.name for stage in stages if stage.gpu > on.memory * 1e9]
    if short:
        sentences.append(f"NOT ENOUGH GPU MEMORY ({on.memory:g} GB): {'; '.join(short)}.")
    return sentences
