"""How large a run is: its corpora, questions and models, from the config and the files that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..data.rows import extent
from ..files import InputError
from ..jobs import room
from ..records import SPLITS
from ..settings import WORKFLOW, EncoderPair, Run
from . import shapes

REFERENCE = WORKFLOW / "reference"
QUESTION_TOKENS, ASSUMED_LIMIT = 20, 200
"""A question and the words around it, in a retriever's or a reader's tokens [assumed]."""
WIKIPEDIA_TOKENS, WIKIPEDIA_BYTES = 135, 660
"""A passage of 100 words with its title: tokens with the ends, bytes in passages.arrow [assumed until tokenised]."""
WORLD_TOKENS, WORLD_BYTES = 50, 300


@dataclass(frozen=True)
class Corpus:
    """How large a corpus is: passages, tokens of one and bytes of passages.arrow; ``known``: read off its files."""

    passages: int
    tokens: float
    arrow: float
    known: bool


class Workload:
    """The sizes behind a run.

    Args:
        run: config and scale.
        results: the scale's folder, to read off what is there already.
    """

    def __init__(self, run: Run, results: str | Path) -> None:
        self.run, self.scale, self.results = run, run.scale, Path(results)

    def _shape(self, kind: str) -> shapes.Shape:
        models = self.scale.models
        world = any(corpus.world for corpus in self.scale.corpora.values())
        given, folder = getattr(models, kind), self.results / "models" / kind
        if isinstance(given, EncoderPair):
            sides = ((place, folder.with_name(f"{kind}_{side}")) for side, place in given)
            return shapes.together([shapes.of_model(place, kind, home, None, world) for place, home in sides])
        return shapes.of_model(given, kind, folder, models.pretraining, world)

    @cached_property
    def shape(self) -> dict[str, shapes.Shape]:
        """Of the retriever and of every kind of reader that the run needs."""
        return {kind: self._shape(kind) for kind in sorted(self.scale.kinds_of(self.needed))}

    @cached_property
    def needed(self) -> list[str]:
        """The experiments asked for and those that they start from, in the scale's order."""
        return self.scale.with_origins(self.run.experiments)

    def corpus(self, name: str) -> Corpus:
        """A corpus's size: counted where its files are there, else stated or assumed.

        Raises:
            InputError: a public corpus whose number of passages nobody states and that is not here yet.
        """
        import numpy as np

        from ..data import miniature
        from ..data.table import read_sources, rows_for

        folder, given = self.results / "corpus" / name, self.scale.corpora[name]
        if (folder / "offsets.npy").exists() and (folder / "passages.arrow").exists():
            offsets = np.load(folder / "offsets.npy", mmap_mode="r", allow_pickle=False)
            passages = len(offsets) - 1
            return Corpus(passages, int(offsets[-1]) / passages, (folder / "passages.arrow").stat().st_size, True)
        longest = self.scale.retrieval.passage_max_tokens or ASSUMED_LIMIT
        if given.world:
            passages = given.world.people * len(miniature.RELATIONS[given.world.variant])
            return Corpus(passages, min(WORLD_TOKENS, longest), WORLD_BYTES * passages, False)
        if given.passages:
            passages, size = extent(given.passages, "passages")
            return Corpus(passages, min(size / max(passages, 1) / room.BYTES_A_TOKEN, longest), size, False)
        passages = [row.passages for row in rows_for(read_sources(REFERENCE / "sources.csv"), given.source)]
        if not all(passages):
            raise InputError(
                f"corpora.{name}: nobody states how many passages '{given.source}' has; once it is tokenised "
                f"(snakemake --cores 1 {folder}/offsets.npy) its plan can be made."
            )
        return Corpus(sum(passages), min(WIKIPEDIA_TOKENS, longest), WIKIPEDIA_BYTES * sum(passages), False)

    @cached_property
    def corpora(self) -> dict[str, Corpus]:
        """Of the run's datasets, by name."""
        return {
            name: self.corpus(name)
            for name in dict.fromkeys(self.scale.datasets[dataset].corpus for dataset in self.run.datasets)
        }

    def questions(self, dataset: str) -> dict[str, int]:
        """How many each split has."""
        data = self.scale.datasets[dataset]
        if data.questions:
            return {split: extent(data.questions[split], "questions")[0] for split in SPLITS}
        if data.source:
            from ..data.sources import split_sizes

            return split_sizes(REFERENCE / "datasets.csv", data.source)
        world = self.scale.corpora[data.corpus].world
        return {split: getattr(world, split) for split in SPLITS}
