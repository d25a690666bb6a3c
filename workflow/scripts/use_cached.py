"""Copy the committed artifacts of results/cached/miniature to results/miniature, unless a run of your own is there.

Called by 'make tables', not by Snakemake. Copies get new times, so that Snakemake takes them as they are.
"""

import gzip
import shutil
import sys
from pathlib import Path


def lay(source: str, place: str) -> None:
    """Copy a file; predictions are kept compressed."""
    if source.endswith(".gz"):
        Path(place).with_suffix("").write_bytes(gzip.decompress(Path(source).read_bytes()))
    else:
        shutil.copyfile(source, place)


cached, target = Path("results/cached/miniature"), Path("results/miniature")
if not cached.is_dir():
    sys.exit(
        "results/cached/miniature is missing: run 'git checkout results/cached', or 'make demo' for a run of your own"
    )
seeds = sorted({path.name.removeprefix("seed") for path in cached.glob("*/*/seed*")}, key=int)
marker = target / ".seeds"
if target.exists() and not marker.exists():
    sys.exit(
        "results/miniature holds a run of your own: 'snakemake --cores 1 tables figures claims' regenerates its "
        "tables; to see the committed ones, move it away and call again"
    )
shutil.copytree(cached, target, dirs_exist_ok=True, copy_function=lay)
marker.write_text(f"[{','.join(seeds)}]\n")
print(f"{len(seeds)} seeds of the committed miniature run, under results/miniature")
