"""The index that a run searches while its retriever learns: the first one, then that of each refresh.

Between two refreshes the retriever moves on and the index stays. A run that is stopped there must go on with the same
old index, so the shards of the last refresh lie in the run's folder, whole where ``step.json`` names their step.

At each refresh a state is saved before the shards are written over the older ones. A run that is killed in the middle
embeds them again, with the weights of that state. So the disk never holds two of them, 32 GB each at paper scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import InputError, read_json, write_json
from ..models.retriever import Retriever
from ..retrieval import index
from ..settings import Retrieval
from .context import Material
from .replicas import Replicas
from .state import INDEX, STATE


class LiveIndex:
    """An index of the corpus that is made anew with a retriever's weights.

    Args:
        retriever: which embeds; in evaluation mode while it does.
        material: the tokenised corpus, and the shards of the first index.
        retrieval: k, shards, dtype.
        run: the run's folder, where shards are written.
        device: where it is searched.
        replicas: who share the embedding.
    """

    def __init__(
        self, retriever: Retriever, material: Material, retrieval: Retrieval, run: Path, device: str, replicas: Replicas
    ) -> None:
        self.retriever, self.material, self.retrieval = retriever, material, retrieval
        self.folder, self.device, self.replicas = run / INDEX, device, replicas
        self.searched = None

    def refresh(self, step: int) -> None:
        """Embed the corpus as the retriever is after ``step`` steps, and search that; at step 0 the first index.

        Where a job was killed after it had done so, its shards are taken.
        """
        if step and self._written() != step:
            self._embed(step)
        self._open(step)

    def reopen(self, refreshed: int, step: int) -> None:
        """Search the index of step ``refreshed`` again, with which a state of step ``step`` goes on.

        Raises:
            InputError: its shards are not there; no other would give the run that was begun.
        """
        if refreshed and self._written() != refreshed:
            raise InputError(
                f"{self.folder}: the index of step {refreshed}, with which the state of step {step} goes on, is not "
                f"there; bring it back, or delete {self.folder.with_name(STATE)} to start at step 0."
            )
        self._open(refreshed)

    def search(self, questions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and passages for token rows of questions, (questions, k), best first."""
        return self.searched.search(self.retriever.question.embed(questions), self.retrieval.k)

    def retrieve(self, questions: Sequence[str], path: str | Path) -> None:
        """Write what the retriever finds for questions."""
        shards = index.open_shards(self._shards())
        index.retrieve(self.searched, shards, self.retriever, questions, self.retrieval, path)

    def _shards(self) -> list[Path]:
        return [self.folder / f"shard-{shard}.npy" for shard in range(self.retrieval.shards)]

    def _written(self) -> int | None:
        """The step whose shards are whole on the disk."""
        path = self.folder / "step.json"
        return read_json(path)["step"] if path.exists() else None

    def _embed(self, step: int) -> None:
        """The same shards, by the same code, as the first index; each replica embeds its share of them."""
        self.searched = None  # at paper scale 32 GB of the GPU, which the next one needs
        self.replicas.wait()  # all have seen what is there, and number 0 has saved the state of this step
        if not self.replicas.rank:
            (self.folder / "step.json").unlink(missing_ok=True)
        self.replicas.wait()
        training = self.retriever.training
        self.retriever.eval()
        paths, tokens = self._shards(), self.material.tokens
        for shard in self.replicas.share(range(len(paths))):
            bounds = index.shard_bounds(len(tokens), int(shard), len(paths))
            index.embed_shard(
                self.retriever.passage, tokens, bounds, paths[shard], batch_tokens=self.retrieval.batch_tokens,
                dtype=self.retrieval.dtype, progress=False,
            )  # fmt: skip
        self.retriever.train(training)
        self.replicas.wait()
        if not self.replicas.rank:
            write_json(self.folder / "step.json", {"step": step})

    def _open(self, step: int) -> None:
        self.searched = None
        shards = index.open_shards(self._shards()) if step else self.material.shards
        self.searched = index.build(shards, self.retrieval, self.device)
