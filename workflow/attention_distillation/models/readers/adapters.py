"""LoRA by ``peft``: a reader's weights W stay as they are, and B·A·(alpha / r) beside each of them learns [Hu 2021].

The adapters are put into the model's own modules, so that it is read, recorded and generated with as before. What a run
saves is a plain reader again: the adapters are added to the weights that they stand beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...files import InputError
from ...settings import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "default"


def require_targets(model: PreTrainedModel, adapter: Adapter) -> None:
    """See that each of ``targets`` names linear layers of the model.

    Raises:
        InputError: one does not; names those that do.
    """
    from transformers.pytorch_utils import Conv1D

    if isinstance(adapter.targets, str):
        return
    head = model.get_output_embeddings()
    linear = {
        name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }
    for target in adapter.targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise InputError(
                f"train_adapter.targets: '{target}' is no linear layer inside {type(model).__name__}; it has "
                f"{', '.join(known)}."
            )


def add_adapters(model: PreTrainedModel, adapter: Adapter, seed: int) -> None:
    """Put adapters into a model: they alone learn, and nothing changes before they do (B is 0).

    Args:
        seed: of A, which is drawn.

    Raises:
        InputError: a target is no linear layer of the model.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    require_targets(model, adapter)
    config = LoraConfig(
        r=adapter.r, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=adapter.targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model, NAME)
        except ValueError as error:  # Mamba's out_proj, say
            raise InputError(f"train_adapter: {type(model).__name__}: {error}") from None


def merged(model: PreTrainedModel) -> dict[str, Tensor] | None:
    """The weights of the plain model, float32 on the CPU, with the adapters added; None where it has none."""
    from peft.tuners.lora import LoraLayer

    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if not adapted:
        return None
    weights = {}
    for name, value in model.state_dict().items():
        holder, _, last = name.rpartition(".")
        layer = adapted.get(holder.removesuffix(".base_layer"))
        if ".lora_" in name:
            continue
        value = value.float() if value.is_floating_point() else value
        if layer is not None and last == "weight":
            value = value + layer.get_delta_weight(NAME).float()
        weights[name.replace(".base_layer.", ".")] = value.cpu()
    return weights
