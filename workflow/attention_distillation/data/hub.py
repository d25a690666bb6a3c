"""Models of the hub: safetensors, tokenizer and configs at one commit, and nothing that would be run.

Nothing is unpickled, and no code of a repository is fetched. The paper's three checkpoints hold only
``pytorch_model.bin`` on their main branch (tiiuae/falcon-rw-1b, google/t5-large-lm-adapt, facebook/contriever); the
sources table pins the commits in which the hub's own bot added the same weights as safetensors (their pull requests
7, 1 and 1).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..files import InputError, replacing
from ..jobs.room import check_disk
from .downloads import locked, record, sha256, wait
from .table import Source

COMMIT = r"[0-9a-f]{40}"
FOLDERS = r"[A-Za-z]*_?\d+_\w+"  # a sentence-transformers module's: 1_Pooling, 2_Dense, query_0_Transformer
WEIGHTS = r"model\.safetensors|model-\d+-of-\d+\.safetensors|model\.safetensors-\d+-of-\d+\.safetensors"
NAMES = "|".join((
    WEIGHTS, r"model\.safetensors\.index\.json",
    r"(generation_|adapter_|preprocessor_|processor_|video_preprocessor_)?config\.json",
    r"(tokenizer|special_tokens_map|added_tokens|tokenizer_config|chat_template|tekken)\.json", r"chat_template\.jinja",
    r"vocab\.(txt|json)", r"merges\.txt", r"spiece\.model", r"tokenizer\.model", r"sentencepiece\.(bpe\.)?model",
    r"modules\.json", r"config_sentence_transformers\.json", r"sentence_[a-z]+_config\.json", r"router_config\.json",
))  # fmt: skip
PICKLED = r"(pytorch_|tf_|flax_)?model[\w.-]*\.(bin|pt|pth|ckpt|h5|msgpack)"
ASKED = 30  # seconds for the hub's answer about a repository
PLACES = "config, or workflow/reference/sources.csv"
REMEDY = f"correct it where it is given ({PLACES})"


def wanted(name: str) -> bool:
    """Whether a repository's file is part of a model as it is read here: weights, tokenizer, configs, never code."""
    return re.fullmatch(f"({FOLDERS}/)?({NAMES})", name) is not None


def _require_safetensors(row: Source, names: list[str]) -> None:
    """See that there are safetensors, and that no module of the model has its weights pickled alone."""
    safe = {PurePosixPath(name).parent for name in names if wanted(name) and name.endswith(".safetensors")}
    pickled = [name for name in names if re.fullmatch(f"({FOLDERS}/)?{PICKLED}", name)]
    pickled = [name for name in pickled if PurePosixPath(name).parent not in safe]
    if pickled or not safe:
        held = ", ".join(pickled) or ("GGUF files" if any(name.endswith(".gguf") for name in names) else "no weights")
        raise InputError(
            f"model '{row.name}' at {row.revision} has no safetensors, only {held}, and nothing is unpickled here: "
            f"give a conversion ({row.address}@refs/pr/N, or column 'revision' of the sources table), or convert it "
            "apart from this workflow and give its directory, or a .gguf file of it, as the model."
        )


def _resolved(row: Source, cache: Path, endpoint: str | None) -> tuple[str, dict[str, str]]:
    """The commit of a row's revision, and the sha256 (empty where the hub tells none) of each file that we take."""
    from huggingface_hub import HfApi

    ref, _, start = row.revision.partition("@")
    start = ref if re.fullmatch(COMMIT, ref) else start
    info = HfApi(endpoint=endpoint).model_info(row.address, revision=ref, files_metadata=True, timeout=ASKED)
    if not info.sha.startswith(start):
        raise InputError(
            f"model '{row.address}': {ref} is at commit {info.sha}, where {start} was asked for; somebody changed it: "
            f"look at it; a commit that you trust can take its place where it is given ({PLACES})."
        )
    files = {file.rfilename: file for file in info.siblings}
    _require_safetensors(row, list(files))
    taken = sorted(filter(wanted, files))
    check_disk(cache, sum(files[name].size or 0 for name in taken))
    return info.sha, {name: files[name].lfs.sha256 if files[name].lfs else "" for name in taken}


def _tell_if_moved(row: Source, commit: str, lock: str | Path, endpoint: str | None) -> None:
    """Say so where a branch has gone on since its commit was written down; where nobody answers, nothing is said."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    if "@" in row.revision or re.fullmatch(COMMIT, row.revision):
        return
    try:
        now = HfApi(endpoint=endpoint).model_info(row.address, revision=row.revision, timeout=5).sha
    except (HTTPError, OSError):
        return
    if now != commit:
        sys.stderr.write(
            f"model '{row.name}': {row.revision} has moved to commit {now}; {commit} is kept, as {lock} has it. "
            f"To move on, give {row.address}@{now} as the model.\n"
        )


def _snapshot(row: Source, commit: str, names: list[str], cache: Path, endpoint: str | None) -> list[Path]:
    """Paths of the files in the hub cache, downloaded where they are missing."""
    from huggingface_hub import constants, snapshot_download

    constants.HF_HUB_DISABLE_XET = True  # plain HTTP: what is tested, and what a proxy lets through
    folder = cache / f"models--{row.address.replace('/', '--')}" / "snapshots" / commit
    if not all((folder / name).exists() for name in names):
        folder = Path(
            snapshot_download(row.address, revision=commit, cache_dir=cache, allow_patterns=names, endpoint=endpoint)
        )
    return [folder / name for name in names]


def _refusal(row: Source, error: Exception) -> str:
    """Why another try will not help, with the remedy; empty for a fault that may pass."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, GatedRepoError):
        return "the hub gives it only to who accepts its terms: do so on its page, and set HF_TOKEN to your token."
    if isinstance(error, DisabledRepoError):
        return "the hub has closed this repository; give another model."
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has no such revision of it; {REMEDY}."
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"the hub has no such repository, or a private one (HTTP {status}), and there is no such directory here; "
            f"{REMEDY}, or set HF_TOKEN to the token of an account that may read it."
        )
    return ""


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
    """Put a hub repository's safetensors, tokenizer and configs into ``folder``, those of its modules among them.

    Commit and sha256 of every file go into the lock file at the first download and are enforced after it; with the
    files in ``cache`` no network is needed then. A branch that moved since is not followed, and said to have moved.
    ``endpoint`` is another hub (default: HF_ENDPOINT, or the public).

    Raises:
        InputError: no safetensors at the revision, another commit than asked for, other bytes than before, a
            repository that is not there, private or gated, no connection.
    """
    from huggingface_hub.errors import HTTPError

    cache, folder = Path(cache).absolute(), Path(folder)
    entry = locked(lock, row.name)
    known = entry if (entry.get("address"), entry.get("revision")) == (row.address, row.revision) else {}
    for attempt in range(tries):
        try:
            commit, digests = (known["commit"], known["files"]) if known else _resolved(row, cache, endpoint)
            paths = dict(zip(digests, _snapshot(row, commit, list(digests), cache, endpoint), strict=True))
            break
        except (HTTPError, OSError) as error:  # the hub's own faults, and lost connections
            if refusal := _refusal(row, error):
                raise InputError(f"model '{row.address}' at {row.revision}: {refusal}") from None
            if attempt == tries - 1:
                reason = str(error).splitlines()[0] if str(error) else "no reason given"
                raise InputError(
                    f"model '{row.address}' at {row.revision} cannot be had ({type(error).__name__}: {reason}); check "
                    "the network, HF_ENDPOINT and HF_HUB_OFFLINE, and try again: files that arrived whole are kept."
                ) from None
            sleep(wait(attempt))
    measured = {name: sha256(path) for name, path in paths.items()}
    for name, digest in digests.items():
        if digest and measured[name] != digest:
            paths[name].resolve().unlink()
            raise InputError(
                f"model '{row.address}', file {name}: its sha256 is {measured[name]}, not {digest}; it was deleted "
                f"from {cache}: try again."
            )
    if known:
        _tell_if_moved(row, commit, lock, endpoint)
    record(lock, row.name, {"address": row.address, "revision": row.revision, "commit": commit, "files": measured})
    sys.stderr.write(f"model '{row.name}': commit {commit}, {len(paths)} files, by {lock} from now on\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        with replacing(folder / name) as part:
            try:
                os.link(path.resolve(), part)  # gigabytes, and nothing ever writes into them
            except OSError:
                shutil.copyfile(path, part)
    return folder
