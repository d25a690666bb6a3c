"""Reduce each run's attention dump to a row per passage (rule analyse_tokens)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.analysis import token_analysis
from attention_distillation.reporting import tables

reading = token_analysis.Reading(**snakemake.params.reading)


def parts(paths):
    """One dump in memory at a time."""
    for path in paths:
        frame, origin = token_analysis.read_dump(path)
        yield (*tables.run_of(path), token_analysis.analyse_units(frame, reading), origin)


token_analysis.write_units(snakemake.output.units, parts(snakemake.input.dumps))
