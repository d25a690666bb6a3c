"""What step2 does with the attention that transformers returns for Falcon with ALiBi, where the bias is added twice.

Anyone who asks the library for attentions gets these. Three targets teach the same retriever from the same step1
reader, with the same questions in the same order: the library's α, the recorder's α, and the recorder's α·‖v‖ (eq. 1).

    snakemake --cores 2 --config 'experiments=[step2]'        # makes the step1 checkpoint that this reads
    PYTHONPATH=workflow python benchmarks/eager_signal.py --dataset nq --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from attention_distillation import context, index, records, settings, signals
from attention_distillation.evaluation import hit
from attention_distillation.readers import DecoderOnlyReader
from attention_distillation.retriever import Retriever, TokenisedCorpus
from attention_distillation.training import Trainer


def library_signal(eager):
    """A signal from ``output_attentions=True`` of the same weights: mean over layers, heads and answer rows."""

    @torch.no_grad()
    def signal(_reader, encoded, _output, distillation, k):
        answers = encoded.labels.shape[1]
        found = eager.model(
            input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False, output_attentions=True
        ).attentions  # a (B, H, T, T) matrix a layer
        rows = torch.stack([layer[:, :, -1 - answers : -1] for layer in found]).mean((0, 2))
        real = (encoded.labels != -100).float()
        attention = torch.einsum("bat,ba->bt", rows.float(), real / real.sum(1, keepdim=True))
        return signals.distribution(signals.passage_scores(attention, encoded.passage, k), distillation.tau_gold)

    return signal


def hit_rate(trainer: Trainer, split: str) -> float:
    questions = trainer.material.questions[split]
    trainer.retriever.eval()
    asked = trainer.retriever.tokenise([q.question for q in questions], trainer.retrieval.question_max_tokens)
    rows = trainer._index.search(trainer.retriever.embed(asked), trainer.retrieval.k)[1]
    texts = trainer.material.texts(rows)
    return float(np.mean([hit([t for _, t in found], q.answers) for found, q in zip(texts, questions, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="miniature")
    parser.add_argument("--dataset", default="nq")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, help="also write the rows to this JSON Lines file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    scale = settings.load({"scale": chosen.scale}).scale
    root, corpus = Path("results") / scale.name, scale.datasets[chosen.dataset].corpus
    home, retriever = root / chosen.dataset, scale.models.retriever or str(root / "models/retriever")
    material = context.open_material(
        str(root / "corpus" / corpus / "passages.arrow"),
        {split: str(home / "data" / f"questions.{split}.jsonl") for split in records.SPLITS},
        {},
        TokenisedCorpus(root / "corpus" / corpus / "tokens.npy", root / "corpus" / corpus / "offsets.npy"),
        index.open_shards(
            [root / "corpus" / corpus / f"index/initial/shard-{n}.npy" for n in range(scale.retrieval.shards)]
        ),
    )  # fmt: skip
    rows = []
    for seed in chosen.seeds:
        checkpoint = str(home / "step1" / f"seed{seed}" / "checkpoint" / "reader")
        eager = DecoderOnlyReader.load(checkpoint, **scale.prompt.model_dump()).eval().requires_grad_(False)
        eager.model.set_attn_implementation("eager")
        signals.SIGNALS["library"] = library_signal(eager)
        for title, signal, value_norm in (
            ("α of the library, ALiBi twice", "library", False),
            ("α of the recorder", "attention", False),
            ("α·‖v‖ of the recorder (eq. 1)", "attention", True),
        ):
            distillation = scale.distillation_of("step2").model_copy(update={"value_norm": value_norm})
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(
                    DecoderOnlyReader.load(checkpoint, **scale.prompt.model_dump()), Retriever.load(retriever),
                    trained=["retriever"], signal=signal, material=material,
                    training=scale.training_of("step2", chosen.dataset), distillation=distillation,
                    retrieval=scale.retrieval, seed=seed, folder=folder, config_hash=title, progress=False,
                )  # fmt: skip
                trainer._index = index.build(material.shards, scale.retrieval)
                before = hit_rate(trainer, "test")
                log = trainer.run()
                after = hit_rate(trainer, "test")
            rows.append({"dataset": chosen.dataset, "seed": seed, "target": title, "hr_before": before,
                         "hr_after": after, "loss": log[-1]["retriever_loss"]})  # fmt: skip
            print(
                f"{chosen.dataset} seed {seed}: {title:32} HR@{scale.retrieval.k} {before:.3f} -> {after:.3f}",
                flush=True,
            )
    print(f"\n{'target':34} n  mean change of HR@{scale.retrieval.k}")
    for title in dict.fromkeys(row["target"] for row in rows):
        changes = [row["hr_after"] - row["hr_before"] for row in rows if row["target"] == title]
        print(f"{title:34} {len(changes)}  {np.mean(changes):+.3f} (from {min(changes):+.3f} to {max(changes):+.3f})")
    if chosen.output:
        records.write_jsonl(chosen.output, rows)


if __name__ == "__main__":
    main()
