# make demo: the whole paper in miniature.   make test: the tests.   make tables: from cached artifacts, no torch.
PYTHON ?= python3.11
CORES ?= 2
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help own-results demo tables cached test test-slurm lint schemas

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/.ready: envs/requirements.txt envs/requirements-models.txt envs/requirements-tables.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement envs/requirements.txt
	touch $@

.venv/.ready-dev: .venv/.ready envs/requirements-dev.txt
	.venv/bin/python -m pip install --quiet --requirement envs/requirements-dev.txt
	touch $@

.venv-tables/.ready: envs/requirements-tables.txt
	$(PYTHON) -m venv .venv-tables
	.venv-tables/bin/python -m pip install --quiet --requirement envs/requirements-tables.txt
	touch $@

own-results:
	@test ! -e results/miniature/.seeds || { echo "results/miniature holds the committed artifacts that 'make tables' \
	laid there: nothing would be trained. Move it away and call again."; exit 1; }

demo: own-results .venv/.ready ## the paper in miniature: tables, figures, claims under results/miniature
	.venv/bin/snakemake --cores $(CORES)
	@echo && cat results/miniature/tables/table1.md && echo "tables, figures and claims: results/miniature/"

tables: .venv-tables/.ready ## tables, figures and claims again from results/cached, without torch
	.venv-tables/bin/python workflow/scripts/use_cached.py
	.venv-tables/bin/snakemake --cores 1 tables figures claims signals --config "seeds=$$(cat results/miniature/.seeds)"

cached: ## keep the artifacts of results/miniature for 'make tables'
	rm -rf results/cached/miniature && mkdir -p results/cached/miniature
	cd results/miniature && cp --parents analysis/units.parquet */*/seed*/{predictions.jsonl,metrics.json,log.jsonl} \
		../cached/miniature
	gzip -9n results/cached/miniature/*/*/seed*/predictions.jsonl
	du -sh results/cached/miniature

test: .venv/.ready-dev ## the tests, a file to each core
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --dist loadscope

test-slurm: .venv/.ready-dev ## the workflow on a SLURM, started here for it (as root, on Debian)
	OMP_NUM_THREADS=1 tests/cluster/with_slurm.sh .venv/bin/python -m pytest tests/cluster

schemas: .venv/.ready ## JSON Schemas of config and scales, for editors
	PYTHONPATH=workflow .venv/bin/python -c "from attention_distillation import files, settings; \
	[files.write_json(f'workflow/schemas/{name}.schema.json', schema) for name, schema in settings.schemas().items()]"

lint: .venv/.ready-dev ## ruff, snakefmt, snakemake --lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow/rules
	.venv/bin/snakemake --lint
