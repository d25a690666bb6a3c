"""How fast is it there and what memory does it take: training, embedding and search at the paper's shapes."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.autograd import DeviceType

import shapes  # first: it says where the package is
from attention_distillation import settings
from attention_distillation.files import read_json
from attention_distillation.models.weights import cast
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus
from attention_distillation.training.loop import Trainer
from common import EXPERIMENTS
from gpu_bench import WIKIPEDIA, Bench, UnitVectors

GOALS = {"step1": 20, "off_the_shelf": 12, "atlas": 6}
"""Steps a second on an H100 that we mean to reach."""


# ------------------------------------------------------------------ speed


class Folded:
    """An index over all of Wikipedia's rows whose finds are folded onto the few passages that there are."""

    def __init__(self, whole, passages: int) -> None:
        self._whole, self._passages = whole, passages

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self._whole.search(questions, k)
        return scores, rows % self._passages


def _trainer(bench: Bench, experiment: str, folder: str, whole: index.TorchIndex | None) -> Trainer:
    """A run of an experiment; where it trains its retriever it searches ``whole``."""
    made = shapes.make_trainer(bench.shape, experiment, Path(folder), device=bench.device)
    made.index.searched = Folded(whole, bench.shape.passages)
    return made


def _go(trainer: Trainer, begin: int, count: int) -> None:
    """``count`` steps as :meth:`Trainer.run` takes them, its thread included."""
    order = (
        (step, np.array([step % len(trainer.material.questions["train"])])) for step in range(begin, begin + count)
    )
    for (step, rows), parts in trainer.ready(order):
        trainer.step(rows, step, parts)


def speed(bench: Bench) -> Iterator[dict]:
    """Steps of one question, from the tokens to the changed weights."""
    warm, count = (2, 3) if bench.toy else (10, 60)
    bench.forget(whole=True)
    for experiment in EXPERIMENTS:
        if bench.time_is_up():
            return
        bench.forget()
        whole = None if experiment == "step1" else bench.whole()  # step1 comes first: its memory is without the index
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(bench, experiment, folder, whole)
            _go(trainer, 0, warm)
            bench.wait()
            begun = time.perf_counter()
            _go(trainer, warm, count)
            bench.wait()
            rate = count / (time.perf_counter() - begun)
            goal = GOALS.get(experiment)
            yield {
                "experiment": experiment,
                "steps a second": rate,
                "goal": goal,
                "reached": None if goal is None or bench.toy else rate >= goal,
                "milliseconds a step": 1000 / rate,
                "of them the optimiser": 1000 * _optimiser(bench, trainer, 3 if bench.toy else 10),
                "prompt tokens": int(trainer.prepared(np.arange(1), 0)[0].encoded.mask.sum()),
                "waits for the GPU in a step": _waits(trainer, warm + count) if bench.device == "cuda" else None,
                "peak GiB": bench.peak_gib(),
            }
            del trainer


def _optimiser(bench: Bench, trainer: Trainer, times: int) -> float:
    """Seconds of the optimiser's part of a step, gradients given."""

    def step() -> None:
        for module in trainer.modules.values():
            for weight in module.parameters():
                weight.grad = torch.zeros_like(weight)
        trainer.optimiser.step(dict.fromkeys(trainer.modules, 0.0))

    return bench.seconds(step, times)


def _waits(trainer: Trainer, step: int) -> int:
    """How often the host waits for the GPU in one step whose parts are ready."""
    rows = np.arange(1)
    parts = trainer.prepared(rows, step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            trainer.step(rows, step, parts)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


# ------------------------------------------------------------------ embedding


def embedding(bench: Bench) -> Iterator[dict]:
    """Passages a second into tokens and into vectors, and what that is for all of Wikipedia."""
    bench.forget(whole=True)
    given = settings.Retrieval(**bench.shape.retrieval)
    encoder = shapes.make_retriever(bench.shape, bench.device)
    with tempfile.TemporaryDirectory() as folder:
        shape = shapes.replace(bench.shape, passages=200 if bench.toy else 65536)
        corpus = shapes.make_material(shape, Path(folder)).corpus
        files = Path(folder) / "tokens.npy", Path(folder) / "offsets.npy"
        begun = time.perf_counter()
        tokenise_corpus(encoder.passage, Path(folder) / "passages.arrow", *files)
        yield _rate("tokenising", len(corpus), time.perf_counter() - begun, None)
        tokens = TokenisedCorpus(*files)
        encoder = cast(encoder, torch.bfloat16).eval()

        def embed() -> None:
            index.embed_shard(
                encoder.passage, tokens, (0, len(tokens)), Path(folder) / "shard.npy", batch_tokens=given.batch_tokens,
                dtype="float16", progress=False,
            )  # fmt: skip

        yield _rate("embedding", len(tokens), bench.seconds(embed, 1), bench.peak_gib())


def _rate(what: str, passages: int, seconds: float, peak: float | None) -> dict:
    rate = passages / seconds
    return {"what": what, "passages a second": rate, "hours for 21 million": WIKIPEDIA / rate / 3600, "peak GiB": peak}


# ------------------------------------------------------------------ search


def copy_bandwidth(bench: Bench) -> float:
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.empty(2**20 if bench.toy else 2**32, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / bench.seconds(lambda: target.copy_(source), 10)


def search(bench: Bench) -> Iterator[dict]:
    """Exact top 5 over all of Wikipedia; the floor is reading the matrix once at the bandwidth of a copy."""
    bench.forget(whole=True)
    bandwidth = copy_bandwidth(bench)
    yield {"what": "copy within the device", "GB a second": bandwidth / 1e9}
    yield from _own_search(bench, bandwidth)
    bench.forget()
    yield from _faiss(bench)


def _own_search(bench: Bench, bandwidth: float) -> Iterator[dict]:
    """By :class:`index.TorchIndex`, over all rows."""
    size = bench.shape.bert["hidden_size"]
    begun = time.perf_counter()
    found = bench.whole()
    bench.wait()
    built = time.perf_counter() - begun
    yield {"what": f"building {bench.rows} x {size}", "milliseconds": 1000 * built, "peak GiB": bench.peak_gib()}
    floor, shard = 2 * bench.rows * size / bandwidth, UnitVectors(bench.rows, size, bench.device)
    for count in (1, 8, 64):
        questions = shard[: index.BLOCK_ROWS][:count].astype(np.float32)  # drawn by the block
        seconds = bench.seconds(lambda asked=questions: found.search(asked, 5), 3 if bench.toy else 10)
        best = found.search(questions, 5)[1][:, 0]
        yield {
            "what": f"search, {count} questions", "milliseconds": 1000 * seconds, "floor, milliseconds": 1000 * floor,
            "times the floor": seconds / floor, "each found itself": bool((best == np.arange(count)).all()),
            "peak GiB": bench.peak_gib(),
        }  # fmt: skip


def _faiss(bench: Bench) -> Iterator[dict]:
    """The same by faiss on the GPU, over a part of the rows, where its build has GPUs at all."""
    try:
        import faiss
    except ImportError:
        yield {"what": "faiss is not installed"}
        return
    if bench.device != "cuda" or not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        yield {"what": f"faiss {faiss.__version__} on the GPU: this build has none"}
        return
    rows, size = min(bench.rows, 4_000_000), bench.shape.bert["hidden_size"]
    options = faiss.GpuIndexFlatConfig()
    options.useFloat16 = True
    built = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), size, options)
    shard = UnitVectors(rows, size, bench.device)
    for start in range(0, rows, index.BLOCK_ROWS):
        built.add(shard[start : start + index.BLOCK_ROWS].astype(np.float32))
    for count in (1, 8, 64):
        questions = shard[:count].astype(np.float32)
        seconds = bench.seconds(lambda asked=questions: built.search(asked, 5), 10)
        yield {"what": f"faiss, {rows} rows, {count} questions", "milliseconds": 1000 * seconds}


# ------------------------------------------------------------------ profile


def profile(bench: Bench) -> Iterator[dict]:
    """The kernels and the host's calls that take longest in the slowest experiment, as the speed section saw it."""
    measured = bench.folder / "gpu-speed.json"
    rows = read_json(measured)["rows"] if measured.exists() else []
    slowest = min(rows, key=lambda row: row["steps a second"])["experiment"] if rows else "off_the_shelf"
    bench.forget()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(bench, slowest, folder, None if slowest == "step1" else bench.whole())
        _go(trainer, 0, 3)
        bench.wait()
        with torch.profiler.profile(activities=activities) as seen:
            _go(trainer, 3, 3)
            bench.wait()
    host = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    kernels = [event for event in host if event.device_type != DeviceType.CPU and not event.is_user_annotation]
    device = sorted(kernels, key=lambda event: -event.self_device_time_total)
    for place, events in (("GPU", device if bench.device == "cuda" else []), ("host", host)):
        for event in events[:20]:
            microseconds = event.self_device_time_total if place == "GPU" else event.self_cpu_time_total
            yield {
                "experiment": slowest, "where": place, "what": event.key[:90],
                "milliseconds a step": microseconds / 3000, "calls a step": event.count / 3,
            }  # fmt: skip
