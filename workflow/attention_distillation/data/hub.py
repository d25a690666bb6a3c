"""Models of the hub: safetensors, tokenizer and config at a pinned commit, and nothing that would be run.

Nothing is unpickled, and no code of a repository is fetched. The paper's three checkpoints hold only
``pytorch_model.bin`` on their main branch (tiiuae/falcon-rw-1b, google/t5-large-lm-adapt, facebook/contriever); the
sources table pins the commits in which the hub's own bot added the same weights as safetensors (their pull requests
7, 1 and 1).
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ..files import InputError, replacing
from ..jobs.room import check_disk
from .downloads import Source, locked, record, sha256, wait

os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # plain HTTP: what is tested, and what a proxy lets through

MODEL_FILES = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model"),
)
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def _resolved(row: Source, cache: Path, endpoint: str | None) -> tuple[str, dict[str, str]]:
    """The commit of a row's revision, and the sha256 (empty where the hub tells none) of each file that we take."""
    from huggingface_hub import HfApi

    ref, _, start = row.revision.partition("@")
    start = ref if re.fullmatch("[0-9a-f]{40}", ref) else start
    info = HfApi(endpoint=endpoint).model_info(row.address, revision=ref, files_metadata=True)
    if not info.sha.startswith(start):
        raise InputError(
            f"model '{row.address}': {ref} is at commit {info.sha}, where the sources table has {start}; "
            "somebody changed it: look at it and put the commit that you trust into column 'revision'."
        )
    names = [file.rfilename for file in info.siblings]
    taken = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in MODEL_FILES)]
    if not any(name.endswith(".safetensors") for name in taken):
        pickled = [name for name in names if name.endswith(PICKLED)]
        raise InputError(
            f"model '{row.address}' at {ref} has no safetensors, only {', '.join(pickled) or 'no weights'}, and "
            "nothing is unpickled here: pin a conversion (refs/pr/N of the repository) in column 'revision', or "
            "convert it apart from this workflow and give its directory as the model."
        )
    files = {file.rfilename: file for file in info.siblings}
    check_disk(cache, sum(files[name].size or 0 for name in taken))
    return info.sha, {name: files[name].lfs.sha256 if files[name].lfs else "" for name in sorted(taken)}


def _snapshot(row: Source, commit: str, names: list[str], cache: Path, endpoint: str | None) -> list[Path]:
    """Paths of the files in the hub cache, downloaded where they are missing."""
    from huggingface_hub import snapshot_download

    folder = cache / f"models--{row.address.replace('/', '--')}" / "snapshots" / commit
    if not all((folder / name).exists() for name in names):
        folder = Path(
            snapshot_download(row.address, revision=commit, cache_dir=cache, allow_patterns=names, endpoint=endpoint)
        )
    return [folder / name for name in names]


def fetch_model(
    row: Source,
    folder: str | Path,
    lock: str | Path,
    *,
    cache: str | Path,
    endpoint: str | None = None,
    tries: int = 4,
    sleep: Callable = time.sleep,
) -> Path:
    """Put a hub repository's safetensors, tokenizer and config into ``folder``, at the pinned revision.

    Commit and sha256 of every file go into the lock file at the first download and are enforced after it; with the
    files in ``cache`` no network is needed then. ``endpoint`` is another hub (default: HF_ENDPOINT, or the public).

    Raises:
        InputError: no safetensors at the revision, a moved revision, other bytes than before, no connection.
    """
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    cache, folder = Path(cache).absolute(), Path(folder)
    entry = locked(lock, row.name)
    known = entry if (entry.get("address"), entry.get("revision")) == (row.address, row.revision) else {}
    for attempt in range(tries):
        try:
            commit, digests = (known["commit"], known["files"]) if known else _resolved(row, cache, endpoint)
            paths = dict(zip(digests, _snapshot(row, commit, list(digests), cache, endpoint), strict=True))
            break
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise InputError(
                f"model '{row.address}' at {row.revision}: the hub has no such repository or revision "
                f"({type(error).__name__}); correct the row in workflow/reference/sources.csv."
            ) from None
        except (HTTPError, OSError) as error:  # the hub's own faults, and lost connections
            if attempt == tries - 1:
                raise InputError(
                    f"model '{row.address}' at {row.revision} cannot be had ({type(error).__name__}: "
                    f"{str(error).splitlines()[0] if str(error) else 'no reason given'}); check the network or "
                    "HF_ENDPOINT and try again: files that arrived whole are kept."
                ) from None
            sleep(wait(attempt))
    hashes = {name: sha256(path) for name, path in paths.items()}
    for name, digest in digests.items():
        if digest and hashes[name] != digest:
            paths[name].resolve().unlink()
            raise InputError(
                f"model '{row.address}', file {name}: its sha256 is {hashes[name]}, not {digest}; it was deleted from "
                f"{cache}: try again."
            )
    record(lock, row.name, {"address": row.address, "revision": row.revision, "commit": commit, "files": hashes})
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        with replacing(folder / name) as part:
            try:
                os.link(path.resolve(), part)  # gigabytes, and nothing ever writes into them
            except OSError:
                shutil.copyfile(path, part)
    return folder
