"""What step2 does with the attention that transformers returns for Falcon with ALiBi, where the bias is added twice.

Anyone who asks the library for attentions gets these. Three targets teach the same retriever from the same step1
reader, with the same questions in the same order: the library's α, the recorder's α, and the recorder's α·‖v‖ (eq. 1).

    snakemake --cores 2 --config 'experiments=[step2]'        # makes the step1 checkpoint that this reads
    python benchmarks/eager_signal.py --dataset nq --seeds 0 1 2
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

import common
from attention_distillation import records, settings
from attention_distillation.models.readers import DecoderOnlyReader
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus
from attention_distillation.training import context, signals
from attention_distillation.training.loop import Trainer

TARGETS = {
    "α of the library, ALiBi twice": ("library", False),
    "α of the recorder": ("attention", False),
    "α·‖v‖ of the recorder (eq. 1)": ("attention", True),
}
"""Signal, and whether it is weighted by the value norm."""


def library_signal(eager):
    """A signal from ``output_attentions=True`` of the same weights: mean over layers, heads and answer rows."""

    @torch.no_grad()
    def signal(shown: signals.Shown) -> torch.Tensor:
        encoded = shown.encoded
        answers = encoded.labels.shape[1]
        found = eager.model(
            input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False, output_attentions=True
        ).attentions  # a (B, H, T, T) matrix a layer
        rows = torch.stack([layer[:, :, -1 - answers : -1] for layer in found]).mean((0, 2))
        real = (encoded.labels != -100).float()
        attention = torch.einsum("bat,ba->bt", rows.float(), real / real.sum(1, keepdim=True))
        return signals.passage_scores(attention, encoded.passage, shown.k)

    return signal


def main() -> None:
    """Train the three retrievers of each seed and tell how their HR@k changed."""
    parser = common.arguments(__doc__.split("\n\n")[0])
    parser.add_argument("--scale", default="miniature")
    parser.add_argument("--dataset", default="nq")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    scale = settings.load({"scale": options.scale}).scale
    root = Path("results") / scale.name
    corpus, home = root / "corpus" / scale.datasets[options.dataset].corpus, root / options.dataset
    initial = scale.models.retriever or str(root / "models/retriever")
    material = context.open_material(
        str(corpus / "passages.arrow"),
        {split: str(home / "data" / f"questions.{split}.jsonl") for split in records.SPLITS},
        {},
        TokenisedCorpus(corpus / "tokens.npy", corpus / "offsets.npy"),
        index.open_shards([corpus / f"index/initial/shard-{n}.npy" for n in range(scale.retrieval.shards)]),
    )
    before = material.hit_rate_of("test", home / "retrieved/initial/retrieved.test.parquet")
    rows = []
    for seed in options.seeds:
        checkpoint = str(home / "step1" / f"seed{seed}" / "checkpoint" / "reader")
        eager = DecoderOnlyReader.load(checkpoint, **scale.prompt.model_dump()).eval().requires_grad_(False)
        eager.model.set_attn_implementation("eager")
        signals.SIGNALS["library"] = library_signal(eager)
        row = {"dataset": options.dataset, "seed": seed, "before": before}
        for title, (signal, value_norm) in TARGETS.items():
            distillation = scale.distillation_of("step2").model_copy(update={"value_norm": value_norm})
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(
                    DecoderOnlyReader.load(checkpoint, **scale.prompt.model_dump()), 
                    Retriever.load(initial, scale.retrieval),
                    trained=["retriever"], signal=signal, material=material,
                    training=scale.training_of("step2", options.dataset), distillation=distillation,
                    retrieval=scale.retrieval, seed=seed, folder=folder, identity={},
                )  # fmt: skip
                trainer.run()
                trainer.retrieve("test", Path(folder) / "retrieved.parquet")
                row[title] = material.hit_rate_of("test", Path(folder) / "retrieved.parquet")
        rows.append(row)
    notes = [f"HR@{scale.retrieval.k} of {len(material.questions['test'])} test questions, scale {scale.name}"]
    for title in TARGETS:
        changes = [row[title] - before for row in rows]
        notes.append(f"{title}: mean change {np.mean(changes):+.3f} ({min(changes):+.3f} to {max(changes):+.3f})")
    common.tell("Step2 taught by the library's attention", rows, notes, options)


if __name__ == "__main__":
    main()
