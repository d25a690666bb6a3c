"""What no reader may be is refused by a few forwards of the very model."""

from __future__ import annotations

import models
import pytest
import torch
import transformers

from attention_distillation.files import InputError
from attention_distillation.models.readers import DecoderOnlyReader
from attention_distillation.models.readers.checks import check_reader

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LIMITS = {"passage_max_tokens": 60, "answer_max_tokens": 16}


def reader(name: str, config: str | None = None, **values) -> DecoderOnlyReader:
    """A reader of a transformers class with the weights that the class draws."""
    tokenizer = models.tokenizer("falcon_alibi")
    torch.manual_seed(0)
    made = getattr(transformers, f"{config or name}Config")(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        **{**SMALL, **values},
    )  # fmt: skip
    return DecoderOnlyReader(getattr(transformers, name)(made).eval(), tokenizer, **LIMITS)


@pytest.mark.parametrize(
    ("name", "config", "values"),
    [
        ("LlamaForCausalLM", "Llama", {"num_key_value_heads": 1}),
        ("Qwen3ForCausalLM", "Qwen3", {"num_key_value_heads": 1, "head_dim": 16}),
        ("GPTNeoXForCausalLM", "GPTNeoX", {}),
        ("Gemma2ForCausalLM", "Gemma2", {"num_key_value_heads": 1, "head_dim": 16}),
        ("BertLMHeadModel", "Bert", {"is_decoder": True}),
    ],
)
def test_causal_models_pass_with_all_their_layers_recorded(name, config, values):
    facts = check_reader(reader(name, config, **values))
    assert (facts["layers"], facts["layers_recorded"]) == (2, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", ["Bert", "Roberta"])
def test_masked_models_are_refused_before_anything_is_computed(config, seed):
    name = "BertLMHeadModel" if config == "Bert" else "RobertaForCausalLM"
    with pytest.raises(InputError, match="masked language model"):
        check_reader(reader(name, config))


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_sees_what_comes_later_is_refused_by_what_it_computes(seed):
    """Whatever its config says: here a Llama whose attention is not causal, with the weights that its class draws."""
    made = reader("LlamaForCausalLM", "Llama", num_key_value_heads=2)
    torch.manual_seed(seed)
    for weight in made.model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.02)
    made.model.model.config._attn_implementation = made.model.config._attn_implementation = "sdpa"
    forward = torch.nn.functional.scaled_dot_product_attention

    def open_to_later(query, key, value, attn_mask=None, is_causal=False, **options):
        return forward(query, key, value, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", open_to_later)
        with pytest.raises(InputError, match="a later token changes what it predicts before it"):
            check_reader(made)


def test_a_model_without_attention_is_refused():
    with pytest.raises(InputError, match="none of the 2 layers of MambaForCausalLM attends by softmax"):
        check_reader(reader("MambaForCausalLM", "Mamba", state_size=4))
