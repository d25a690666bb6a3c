"""Is it right there: one step against the CPU in float32, and the miniature's experiments against those committed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import shapes  # first: it says where the package is
from attention_distillation import settings
from attention_distillation.analysis import inference
from attention_distillation.data import miniature
from attention_distillation.files import read_json
from attention_distillation.models.readers import KINDS
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus
from attention_distillation.training.loop import Trainer
from attention_distillation.training.signals import target
from common import EXPERIMENTS
from gpu_bench import Bench

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.05, 0.15)}
"""Largest error as a share of the largest value, of values and of gradients: float32 sums in another order; eight bits
through a few layers. The retriever's gradient is a difference of two distributions that are nearly equal, where a CPU
errs by 0.08 in bfloat16 as well."""
MINIATURE_TOLERANCE = {"em": 10.0, "f1": 10.0, "hr_at_5": 0.10}
"""Training magnifies rounding, so single answers change; these are about three standard errors of a difference between
two independent runs on 500 questions (EM near 50: sqrt(2 * 0.25 / 500) = 3.2 points)."""


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
    """Small models, three questions with padding: what a device gives, in both precisions, against a CPU in float32."""
    shape = shapes.replace(shapes.without_dropout(shapes.TOY), ragged=True)
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
                    distillation=trainer.distillation.model_copy(update={"tau_gold": 0.3, "theta": 1.0}), folder=folder,
                    identity={}, device=device, dtype=dtype, progress=False,
                )  # fmt: skip
                trainer.retrieved = lambda split, rows, trainer=trainer: (None, trainer.material.retrieved[split][rows])
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
            seen["signal"] = target(trainer.signal, trainer.shown(parts[0]))
        if trainer.reader.model.config.is_encoder_decoder:
            seen["loss of each passage alone"] = trainer.reader(trainer.reader.alone(encoded)[0]).answer_loss
    gradients: dict[str, list[torch.Tensor]] = {}
    trainer.optimiser.step = lambda _rates: gradients.update(
        {
            name: [weight.grad.detach().float().flatten() for weight in module.parameters()]
            for name, module in trainer.modules.items()
        }
    )
    losses = trainer.step(np.arange(3), 0, parts)
    seen |= {f"{name}'s loss": loss for name, loss in losses.items()}
    return seen | {f"{name}'s gradient": torch.cat(values) for name, values in gradients.items()}


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
    encoder = Retriever.load(models["retriever"], scale.retrieval).to(bench.device).eval()
    files = place / "tokens.npy", place / "offsets.npy"
    tokenise_corpus(encoder.passage, place / "passages.arrow", *files)
    tokens = TokenisedCorpus(*files)

    def embedded(module: Retriever, name: str) -> list[np.ndarray]:
        """The corpus as a retriever sees it: an index's shards."""
        path = place / f"{name}.npy"
        with torch.no_grad():
            index.embed_shard(
                module.eval().passage,
                tokens,
                (0, len(tokens)),
                path,
                batch_tokens=scale.retrieval.batch_tokens,
                progress=False,
            )
        return index.open_shards([path])

    def found(module: Retriever, shards, split: str) -> np.ndarray:
        asked = module.question.embed(module.question.tokenise([q.question for q in questions[split]]))
        return index.build(shards, scale.retrieval, bench.device).search(asked, scale.retrieval.k)[1]

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
        module, begun, shown = Retriever.load(models["retriever"], scale.retrieval), time.perf_counter(), material
        reader, module = reader.to(bench.device), module.to(bench.device)
        distillation = scale.distillation_of(experiment)
        if given.train:
            trainer = Trainer(
                reader, module, trained=given.train, signal=given.signal, material=material,
                training=scale.training_of(experiment, dataset), distillation=distillation, retrieval=scale.retrieval,
                seed=0, folder=place / experiment, identity={}, device=bench.device, progress=False,
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
