"""Tabulate what signals gained over worlds, and which number measured beforehand predicts it."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.reporting import signal_tables, typesetting

output = snakemake.output
runs = signal_tables.read_runs(snakemake.input)
gains, power = signal_tables.gains(runs), signal_tables.predictive_power(runs)
for frame, csv in ((gains, output.gains), (power, output.power)):
    signal_tables.write_runs(csv, frame)
typesetting.write_text(output.gains_page, signal_tables.gains_page(gains, runs))
typesetting.write_text(output.power_page, signal_tables.power_page(power, runs))
