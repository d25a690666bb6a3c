"""Config and scales: ``config.yaml`` is what a user changes, ``workflow/scales/<scale>.yaml`` holds every number.

=============  ====================================================================
``schema``     what a scale may say, key by key
``graph``      which experiment starts from which
``loading``    what a user writes; config laid over a scale
``validation`` errors that name the key, and the one that was probably meant
=============  ====================================================================
"""

from .graph import UNTRAINED, Part
from .loading import Config, Custom, Run, load, merged, read_scale, schemas
from .schema import (
    DEFAULT_TEMPLATE,
    MAIN,
    MODEL_KINDS,
    WORKFLOW,
    Adapter,
    Analysis,
    Architecture,
    Bits,
    Compute,
    Corpus,
    Distillation,
    EncoderPair,
    Experiment,
    ModelKind,
    Pretraining,
    Prompt,
    Retrieval,
    Scale,
    Signal,
    Training,
    World,
    template_pieces,
)

__all__ = [
    "DEFAULT_TEMPLATE",
    "MAIN",
    "MODEL_KINDS",
    "UNTRAINED",
    "WORKFLOW",
    "Adapter",
    "Analysis",
    "Architecture",
    "Bits",
    "Compute",
    "Config",
    "Corpus",
    "Custom",
    "Distillation",
    "EncoderPair",
    "Experiment",
    "ModelKind",
    "Part",
    "Pretraining",
    "Prompt",
    "Retrieval",
    "Run",
    "Scale",
    "Signal",
    "Training",
    "World",
    "load",
    "merged",
    "read_scale",
    "schemas",
    "template_pieces",
]
