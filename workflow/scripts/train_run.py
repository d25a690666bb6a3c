"""Train one run: an experiment on a dataset with a seed."""

from attention_distillation import runtime

runtime.start(snakemake)

from pathlib import Path

from attention_distillation import context, index, records, room
from attention_distillation.readers import KINDS
from attention_distillation.retriever import Retriever, TokenisedCorpus
from attention_distillation.settings import Distillation, Retrieval, Training
from attention_distillation.training import Trainer

runtime.torch_threads(snakemake)
given, params = snakemake.input, snakemake.params
start = {part: runtime.part_of(given[part], part) for part in ("reader", "retriever")}
folder, shards = Path(snakemake.output.log).parent, given.get("shards", [])
room.check_training(folder, start, params.experiment["train"], shards, on_gpu=runtime.device() != "cpu")
config_hash = records.digest([dict(params.items()), dict(snakemake.wildcards.items())])
trainer = Trainer(
    KINDS[params.experiment["architecture"]].load(start["reader"], **params.prompt),
    Retriever.load(start["retriever"]),
    trained=params.experiment["train"],
    signal=params.experiment["signal"],
    material=context.open_material(
        given.passages,
        {"train": given.train, "dev": given.dev},
        dict(zip(("train", "dev"), given.get("retrieved", []), strict=False)),
        TokenisedCorpus(given.tokens, given.offsets),
        index.open_shards(shards),
    ),
    training=Training(**params.training),
    distillation=Distillation(**params.distillation),
    retrieval=Retrieval(**params.retrieval),
    seed=int(snakemake.wildcards.seed),
    folder=folder,
    config_hash=config_hash,
    device=runtime.device(),
    autocast=lambda: runtime.autocast(params.precision),
    gold=context.read_gold(given.get("gold")),
)
trainer.run()
trainer.save(snakemake.output.checkpoint)
facts = records.provenance(dict(params.items()), device=runtime.device_name(), **dict(snakemake.wildcards.items()))
records.write_json(f"{snakemake.output.checkpoint}/provenance.json", facts)
trainer.forget()
