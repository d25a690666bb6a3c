#!/usr/bin/env bash
# Run by Snakemake in the new environment, from the repository; a changed pin needs a new environment (rm -r
# .snakemake/conda), since Snakemake compares this file and gpu.yaml only.
set -euo pipefail
python -m pip install --requirement envs/requirements-gpu.txt
