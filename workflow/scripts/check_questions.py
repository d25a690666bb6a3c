"""Read a user's questions and write them as the pipeline reads them."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from attention_distillation import files, records
from attention_distillation.data import checks, inputs

readings = {split: inputs.Reading(snakemake.input[split]) for split in records.SPLITS}
read = {
    split: inputs.read_questions(reading.path, f"{snakemake.wildcards.dataset}-{split}-", reading)
    for split, reading in readings.items()
}
facts = checks.question_facts(read)
for reading in readings.values():
    for line in reading.lines("questions"):
        sys.stderr.write(f"{line}\n")
for line in checks.question_warnings(facts):
    sys.stderr.write(f"warning: {line}\n")
for split, questions in read.items():
    records.write_questions(snakemake.output[split], questions)
facts["files"] = {split: reading.facts() for split, reading in readings.items()}
files.write_json(snakemake.output.facts, facts)
