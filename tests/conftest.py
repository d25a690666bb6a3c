"""One thread for whatever a test imports: processes that share cores slow each other down many times.

Where the package and the helpers beside this file are found is said in ``pyproject.toml`` (``pythonpath``).
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
