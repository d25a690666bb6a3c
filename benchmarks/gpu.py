"""What can only be known on a GPU: is it right there, how fast is it, what memory does it take.

    python benchmarks/gpu.py [--sections correctness,speed] [--minutes 9] [--folder docs/measurements] [--toy]

Sections, each a few minutes on an H100 with 80 GB, each writing ``gpu-<section>.json`` and ``.md`` as soon as it is
done; nothing is downloaded and no checkpoint is needed:

correctness  recorder, signals and one training step against the same in float32 on the CPU
speed        steps a second of every experiment at the paper's shapes, with the whole index; memory; waits for the GPU
embedding    tokenising and embedding passages
search       21,015,324 random unit vectors in bfloat16, 1, 8 and 64 questions, against the time of a copy; faiss
profile      where the slowest experiment's time goes (torch.profiler)
miniature    the miniature's six experiments: EM, F1 and HR@5 beside those committed, which a CPU made

After ``--minutes`` no section or experiment is begun any more. ``--toy`` is for tests: tiny shapes, any device.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import shapes  # first: it says where the package is
from attention_distillation import index, inference, miniature, retriever, runtime, settings
from attention_distillation.optimiser import cast
from attention_distillation.readers import KINDS
from attention_distillation.records import read_json, write_json
from attention_distillation.retriever import Retriever, TokenisedCorpus
from attention_distillation.signals import SIGNALS, alone
from attention_distillation.training import Trainer

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("step1", "step2", "off_the_shelf", "atlas", "perplexity")
GOALS = {"step1": 20, "off_the_shelf": 12, "atlas": 6}
"""Steps a second on an H100 that we mean to reach."""
WIKIPEDIA = 21_015_324
TOLERANCE = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.05, 0.15)}
"""Largest error as a share of the largest value, of values and of gradients: float32 sums in another order; eight bits
through a few layers. The retriever's gradient is a difference of two distributions that are nearly equal, where a CPU
errs by 0.08 in bfloat16 as well."""
MINIATURE_TOLERANCE = {"em": 10.0, "f1": 10.0, "hr_at_5": 0.10}
"""Training magnifies rounding, so single answers change; these are about 1.5 standard errors of a difference between
two independent runs on 200 questions (EM near 50: sqrt(2 * 0.25 / 200) = 5 points)."""


class Bench:
    """Where it runs, at what size, and until when."""

    def __init__(self, toy: bool, minutes: float, folder: Path) -> None:
        self.toy, self.folder, self.device = toy, folder, runtime.device()
        self.shape = shapes.TOY if toy else shapes.TRUE
        self.rows = 3000 if toy else WIKIPEDIA
        self._end = time.monotonic() + 60 * minutes

    def time_is_up(self) -> bool:
        return time.monotonic() > self._end

    def wait(self) -> None:
        """Until the GPU has done all that it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Mean time of ``work``, after one time that does not count."""
        work()
        self.wait()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - begun) / times

    def forget(self) -> None:
        """Give memory back before something large is made."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Most GPU memory that tensors took since :meth:`forget`."""
        return round(torch.cuda.max_memory_allocated() / 2**30, 2) if self.device == "cuda" else None


def table(rows: list[dict]) -> str:
    """Rows of like keys as a Markdown table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, ["---"] * len(keys), *([_cell(row.get(key)) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------ correctness


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    found, wanted = found.detach().float().cpu(), wanted.detach().float().cpu()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))


def _sharpen(module: torch.nn.Module) -> None:
    """Weights drawn large enough that attention is far from flat, the same on every device."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            fresh = noise * 0.1 if weight.dim() > 1 or name.endswith("bias") else 1 + 0.1 * noise
            weight.copy_(fresh.to(weight))


def correctness(bench: Bench) -> Iterator[dict]:
    """Small models, three questions: what the device gives, in both precisions, against the CPU in float32."""
    shape = shapes.without_dropout(shapes.TOY)
    for experiment in EXPERIMENTS:
        made = {}
        for device, dtype in (("cpu", torch.float32), (bench.device, torch.float32), (bench.device, torch.bfloat16)):
            with tempfile.TemporaryDirectory() as folder:
                trainer = shapes.make_trainer(shape, experiment, Path(folder), device="cpu", dtype=torch.float32)
                for module in (trainer.reader, trainer.retriever):
                    _sharpen(module)
                trainer = Trainer(
                    trainer.reader, trainer.retriever, trained=trainer.trained, signal=trainer.signal,
                    material=trainer.material, training=trainer.training, retrieval=trainer.retrieval, seed=0,
                    distillation=trainer.distillation.model_copy(update={"tau_gold": 0.3}), folder=folder,
                    config_hash="", device=device, dtype=dtype, progress=False,
                )  # fmt: skip
                trainer.retrieved = lambda split, rows, trainer=trainer: trainer.material.retrieved[split][rows]
                parts = trainer.prepared(np.arange(3), 0)
                made[device, dtype] = _seen(trainer, parts)
        reference = made.pop(("cpu", torch.float32))
        for (device, dtype), seen in made.items():
            for what, value in seen.items():
                error, tolerance = _error(value, reference[what]), TOLERANCE[dtype][what.endswith("gradient")]
                yield {
                    "experiment": experiment, "what": what, "device": device, "precision": str(dtype)[6:],
                    "error": error, "tolerance": tolerance, "agrees": error <= tolerance,
                }  # fmt: skip


def _seen(trainer: Trainer, parts) -> dict[str, torch.Tensor]:
    """Recorded attention, the signal's distribution, the losses and the gradients of one step."""
    encoded, seen = parts[0].encoded.to(trainer.device), {}
    with torch.no_grad():
        output = trainer.reader(encoded, record=True)
        seen["recorded attention"] = output.token_attention
        if trainer.signal != "none":
            signal = SIGNALS[trainer.signal]
            seen["signal"] = signal(trainer.reader, encoded, output, trainer.distillation, trainer.retrieval.k)
        if trainer.reader.model.config.is_encoder_decoder:
            seen["loss of each passage alone"] = trainer.reader(alone(encoded)).answer_loss
    gradients: dict[str, list[torch.Tensor]] = {}
    for name, (module, optimizer) in trainer.parts.items():
        optimizer.step = lambda name=name, module=module: gradients.update(
            {name: [weight.grad.detach().float().flatten() for weight in module.parameters()]}
        )
    losses = trainer.step(np.arange(3), 0, parts)
    seen |= {f"{name}'s loss": loss for name, loss in losses.items()}
    return seen | {f"{name}'s gradient": torch.cat(values) for name, values in gradients.items()}


# ------------------------------------------------------------------ speed


class UnitVectors:
    """A shard of random unit vectors, made on the device as it is read: 32 GB that lie on no disk."""

    def __init__(self, rows: int, size: int, device: str) -> None:
        self.shape, self._device = (rows, size), device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        draw = torch.Generator(self._device).manual_seed(start)
        made = torch.randn(stop - start, self.shape[1], generator=draw, device=self._device)
        return torch.nn.functional.normalize(made).half().cpu().numpy()


class Folded:
    """An index over all of Wikipedia's rows whose finds are folded onto the few passages that there are."""

    def __init__(self, whole, passages: int) -> None:
        self._whole, self._passages = whole, passages

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self._whole.search(questions, k)
        return scores, rows % self._passages


def _whole_index(bench: Bench) -> index.TorchIndex:
    return index.TorchIndex([UnitVectors(bench.rows, bench.shape.bert["hidden_size"], bench.device)], bench.device)


def _trainer(bench: Bench, experiment: str, folder: str, whole: index.TorchIndex | None) -> Trainer:
    """A run of an experiment; where it trains its retriever it searches ``whole``."""
    made = shapes.make_trainer(bench.shape, experiment, Path(folder), device=bench.device)
    made._index = Folded(whole, bench.shape.passages)
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
    (warm, count), whole = (2, 3) if bench.toy else (10, 60), None
    for experiment in EXPERIMENTS:
        if bench.time_is_up():
            return
        if experiment != "step1" and whole is None:  # step1 comes first: it needs no index, and its memory has none
            whole = _whole_index(bench)
        bench.forget()
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
                "of them the optimisers": 1000 * _optimisers(bench, trainer, 3 if bench.toy else 10),
                "prompt tokens": int(trainer.prepared(np.arange(1), 0)[0].encoded.mask.sum()),
                "waits for the GPU in a step": _waits(trainer, warm + count) if bench.device == "cuda" else None,
                "peak GiB": bench.peak_gib(),
            }
            del trainer


def _optimisers(bench: Bench, trainer: Trainer, times: int) -> float:
    """Seconds of the optimisers' part of a step, gradients given."""

    def step() -> None:
        for module, optimizer in trainer.parts.values():
            for weight in module.parameters():
                weight.grad = torch.zeros_like(weight)
            optimizer.step()

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
    bench.forget()
    given = settings.Retrieval(**bench.shape.retrieval)
    encoder = shapes.make_retriever(bench.shape, bench.device)
    with tempfile.TemporaryDirectory() as folder:
        shape = shapes.replace(bench.shape, passages=200 if bench.toy else 65536)
        corpus = shapes.make_material(shape, Path(folder)).corpus
        files = Path(folder) / "tokens.npy", Path(folder) / "offsets.npy"
        begun = time.perf_counter()
        retriever.tokenise_corpus(encoder.tokenizer, Path(folder) / "passages.arrow", given.passage_max_tokens, *files)
        yield _rate("tokenising", len(corpus), time.perf_counter() - begun, None)
        tokens = TokenisedCorpus(*files)
        encoder = cast(encoder, torch.bfloat16).eval()

        def embed() -> None:
            index.embed_shard(
                encoder, tokens, (0, len(tokens)), Path(folder) / "shard.npy", batch_tokens=given.batch_tokens,
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
    bench.forget()
    bandwidth = copy_bandwidth(bench)
    yield {"what": "copy within the device", "GB a second": bandwidth / 1e9}
    yield from _own_search(bench, bandwidth)
    bench.forget()
    yield from _faiss(bench)


def _own_search(bench: Bench, bandwidth: float) -> Iterator[dict]:
    """By :class:`index.TorchIndex`, over all rows."""
    size = bench.shape.bert["hidden_size"]
    begun = time.perf_counter()
    found = _whole_index(bench)
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
        trainer = _trainer(bench, slowest, folder, None if slowest == "step1" else _whole_index(bench))
        _go(trainer, 0, 3)
        bench.wait()
        with torch.profiler.profile(activities=activities) as seen:
            _go(trainer, 3, 3)
            bench.wait()
    host = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    device = sorted(host, key=lambda event: -event.self_device_time_total)
    for place, events in (("GPU", device if bench.device == "cuda" else []), ("host", host)):
        for event in events[:20]:
            microseconds = event.self_device_time_total if place == "GPU" else event.self_cpu_time_total
            yield {
                "experiment": slowest, "where": place, "what": event.key[:90],
                "milliseconds a step": microseconds / 3000, "calls a step": event.count / 3,
            }  # fmt: skip


# ------------------------------------------------------------------ the miniature


def the_miniature(bench: Bench) -> Iterator[dict]:
    """Table 1 of the miniature from this device beside the committed one."""
    run = settings.load({"scale": "smoke" if bench.toy else "miniature"})
    scale = run.scale
    models = {kind: ROOT / getattr(scale.models, kind) for kind in settings.MODEL_KINDS}
    for dataset in run.datasets[:1] if bench.toy else run.datasets:
        with tempfile.TemporaryDirectory() as place:
            yield from _experiments(bench, scale, dataset, models, Path(place))


def _experiments(bench: Bench, scale, dataset: str, models: dict[str, Path], place: Path) -> Iterator[dict]:
    world = scale.corpora[scale.datasets[dataset].corpus].world
    shapes.write_passages(place / "passages.arrow", miniature.passages(world))
    corpus, questions = shapes.Passages(place / "passages.arrow"), miniature.questions(world)
    encoder = Retriever.load(models["retriever"]).to(bench.device).eval()
    files = place / "tokens.npy", place / "offsets.npy"
    retriever.tokenise_corpus(encoder.tokenizer, place / "passages.arrow", scale.retrieval.passage_max_tokens, *files)
    tokens = TokenisedCorpus(*files)

    def embedded(module: Retriever, name: str) -> list[np.ndarray]:
        """The corpus as a retriever sees it: an index's shards."""
        path = place / f"{name}.npy"
        with torch.no_grad():
            index.embed_shard(
                module.eval(), tokens, (0, len(tokens)), path, batch_tokens=scale.retrieval.batch_tokens, progress=False
            )
        return index.open_shards([path])

    def found(module: Retriever, shards, split: str) -> np.ndarray:
        asked = module.tokenise([q.question for q in questions[split]], scale.retrieval.question_max_tokens)
        return index.build(shards, scale.retrieval, bench.device).search(module.embed(asked), scale.retrieval.k)[1]

    first = embedded(encoder, "initial")
    retrieved = {split: found(encoder, first, split) for split in ("train", "dev", "test")}
    material = shapes.Material(corpus, questions, retrieved, tokens, first)
    readers: dict[str, Path] = {}
    for experiment in settings.MAIN:
        if bench.time_is_up():
            return
        given = scale.experiments[experiment]
        kind = "reader" if given.architecture == "decoder_only" else "encoder_decoder"
        reader = KINDS[given.architecture].load(readers.get(given.reader, models[kind]), **scale.prompt.model_dump())
        module, begun, shown = Retriever.load(models["retriever"]), time.perf_counter(), material
        reader, module = reader.to(bench.device), module.to(bench.device)
        distillation = scale.distillation_of(experiment)
        if given.train:
            trainer = Trainer(
                reader, module, trained=given.train, signal=given.signal, material=material,
                training=scale.training_of(experiment, dataset), distillation=distillation, retrieval=scale.retrieval,
                seed=0, folder=place / experiment, config_hash="", device=bench.device, progress=False,
            )  # fmt: skip
            trainer.run()
            trainer.save(place / experiment / "checkpoint")
            if "reader" in given.train:
                readers[experiment] = place / experiment / "checkpoint" / "reader"
            if "retriever" in given.train:
                test = found(module, embedded(module, experiment), "test")
                shown = shapes.replace(material, retrieved={**retrieved, "test": test})
        answers = inference.predict(reader.eval(), shown, distillation, batch_size=scale.compute.batch_size, seed=0)
        seconds = time.perf_counter() - begun
        metrics = inference.summary(answers)
        committed = ROOT / "results" / "cached" / "miniature" / dataset / experiment / "seed0" / "metrics.json"
        wanted = read_json(committed) if committed.exists() and not bench.toy else None
        row = {"dataset": dataset, "experiment": experiment, "seconds": seconds}
        for key, tolerance in MINIATURE_TOLERANCE.items():
            row |= {key: metrics[key], f"{key}, committed": wanted[key] if wanted else None}
            if wanted and abs(metrics[key] - wanted[key]) > tolerance:
                row["beyond tolerance"] = f"{row.get('beyond tolerance', '')} {key}".strip()
        yield row


# ------------------------------------------------------------------ all of them

SECTIONS: dict[str, Callable[[Bench], Iterator[dict]]] = {
    "correctness": correctness, "speed": speed, "embedding": embedding, "search": search, "profile": profile,
    "miniature": the_miniature,
}  # fmt: skip


def facts(bench: Bench) -> dict:
    """Where and with what it was measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    import transformers

    return {
        "device": runtime.device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "transformers": transformers.__version__, "python": platform.python_version(), "toy": bench.toy,
        "commit": commit.stdout.strip() or "none", "cpu cores": os.cpu_count(),
    }  # fmt: skip


def write(bench: Bench, section: str, rows: list[dict], seconds: float, whole: bool) -> None:
    """A section's rows so far, as JSON and Markdown."""
    told = facts(bench)
    base = bench.folder / f"gpu-{section}"
    write_json(base.with_suffix(".json"), {"facts": told, "seconds": round(seconds, 1), "whole": whole, "rows": rows})
    text = [
        f"# {section.capitalize()} on {told['device']}", "", SECTIONS[section].__doc__, "",
        ", ".join(f"{key} {value}" for key, value in told.items()) + f"; {seconds:.0f} s"
        + ("" if whole else "; **not whole: time was up or it failed**"), "", table(rows), "",
    ]  # fmt: skip
    base.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, with commas between")
    parser.add_argument("--minutes", type=float, default=9, help="after so long nothing more is begun")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "measurements")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, to test this script")
    given = parser.parse_args(arguments)
    names = given.sections.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    bench = Bench(given.toy, given.minutes, given.folder)
    if bench.device == "cpu" and not given.toy:
        parser.error("there is no GPU here; --toy runs the script on a CPU")
    bench.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if bench.time_is_up():
            print(f"time is up before section {name}", file=sys.stderr)
            return
        rows, begun, whole = [], time.monotonic(), False
        try:
            for row in SECTIONS[name](bench):
                rows.append(row)
                print(name, json.dumps(row), flush=True)
                write(bench, name, rows, time.monotonic() - begun, False)
            whole = not bench.time_is_up()
        finally:
            write(bench, name, rows, time.monotonic() - begun, whole)


if __name__ == "__main__":
    main()
