"""Families of causal models: read, checked, recorded against the library's own attention, trained a step, saved."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from attention_distillation.files import InputError
from attention_distillation.models.readers import DecoderOnlyReader
from attention_distillation.models.readers.checks import check_reader
from attention_distillation.training.optimiser import Optimiser

LIMITS = {"passage_max_tokens": 60, "answer_max_tokens": 16}
COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
GROUPED = {**COMMON, "num_key_value_heads": 2, "intermediate_size": 48}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    **GROUPED, "num_key_value_heads": 4, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
LINEAR = {
    "num_hidden_layers": 4, "head_dim": 8, "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 16}

FAMILIES = {  # model_type: its config, how many of how many layers are recorded
    "llama": (GROUPED, 2, 2),
    "mistral": ({**GROUPED, "sliding_window": 256}, 2, 2),
    "mixtral": ({**GROUPED, "num_local_experts": 4}, 2, 2),
    "qwen2": (GROUPED, 2, 2),
    "qwen3": ({**GROUPED, "head_dim": 8}, 2, 2),
    "qwen3_moe": ({**GROUPED, "head_dim": 8, **MIXTURE, "decoder_sparse_step": 1}, 2, 2),
    "phi": ({**COMMON, "intermediate_size": 48}, 2, 2),
    "phi3": (GROUPED, 2, 2),
    "olmo2": (GROUPED, 2, 2),
    "smollm3": (GROUPED, 2, 2),
    "granite": (GROUPED, 2, 2),
    "stablelm": (GROUPED, 2, 2),
    "cohere": (GROUPED, 2, 2),
    "cohere2": ({**GROUPED, "sliding_window": 256, "head_dim": 8}, 2, 2),
    "gemma": ({**GROUPED, "head_dim": 8}, 2, 2),
    "gemma2": ({**GROUPED, "head_dim": 8, "sliding_window": 256}, 2, 2),
    "gemma3_text": ({**GROUPED, "head_dim": 8, "sliding_window": 256}, 2, 2),
    "gpt_oss": (
        {**GROUPED, "head_dim": 8, "sliding_window": 256, "num_local_experts": 4, "num_experts_per_tok": 2}, 2, 2,
    ),
    "deepseek_v3": ({**LATENT, "q_lora_rank": 16}, 2, 2),
    "gpt2": ({**OLD, "n_positions": 512}, 2, 2),
    "gpt_neox": ({**COMMON, "intermediate_size": 48}, 2, 2),
    "opt": ({**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32}, 2, 2),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, 2, 2),
    "mpt": ({"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}, 2, 2),
    "falcon": ({**COMMON, "alibi": False, "multi_query": True, "new_decoder_architecture": False}, 2, 2),
    "granitemoehybrid": (
        {**GROUPED, "num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"], **MAMBA,
         "num_local_experts": 0, "shared_intermediate_size": 32}, 1, 3,
    ),
    "qwen3_next": ({**GROUPED, **LINEAR, **MIXTURE, "shared_expert_intermediate_size": 16}, 1, 4),
    "qwen3_5_text": ({**GROUPED, **LINEAR}, 1, 4),
    "lfm2": ({**GROUPED, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}, 1, 3),
}  # fmt: skip
EAGER_IS_WRONG = {"falcon"}
"""Whose eager path adds a boolean mask as a number (tests/models/test_attention.py has the reference)."""
REFUSED = {
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, "none of the 2 layers"),
    "bert": ({**COMMON, "intermediate_size": 48}, "masked language model"),
    "roberta": ({**COMMON, "intermediate_size": 48}, "masked language model"),
}


def reader(kind: str, values: dict, attention: str | None = None) -> DecoderOnlyReader:
    tokenizer = models.tokenizer("falcon_alibi")
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), bos_token_id=None, **ids, **values)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config)
    made.set_attn_implementation(attention or ("sdpa" if made._supports_sdpa else "eager"))
    return DecoderOnlyReader(made.eval(), tokenizer, **LIMITS)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_read_recorded_and_trained(kind):
    values, recorded, layers = FAMILIES[kind]
    made = reader(kind, values)
    facts = check_reader(made)  # causal, recorded, alike with and without padding, generates
    assert (facts["layers_recorded"], facts["layers"]) == (recorded, layers)

    encoded = made.encode(["who was ada"], [[("ada", "ada died ."), ("", "bay")]], ["bay"])
    if kind not in EAGER_IS_WRONG:
        with torch.no_grad():
            own = made(encoded, record=True, value_norm=False).token_attention[0]
        plain = reader(kind, values, "eager")
        plain.load_state_dict(made.state_dict())
        answers = encoded.labels.shape[1]
        with torch.no_grad():
            matrices = plain.model(
                input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False, output_attentions=True
            ).attentions
        seen = [one[0, :, -1 - answers : -1].mean((0, 1)) for one in matrices if one is not None]
        assert len(seen) == recorded
        reference = torch.stack(seen).mean(0)
        assert torch.allclose(own, reference, atol=2e-6), (own - reference).abs().max()

    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    optimiser = Optimiser({"reader": made.train()})
    made(encoded).answer_loss.mean().backward()
    optimiser.step({"reader": 1e-3})
    assert any(not torch.equal(weight, before[name]) for name, weight in made.state_dict().items())


def test_the_page_lists_them_all():
    """docs/models.md: each family with the layers that are recorded."""
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    for kind, (_, recorded, layers) in FAMILIES.items():
        assert f"| `{kind}` | {recorded} of {layers} |" in page
    for kind in REFUSED:
        assert f"`{kind}`" in page.split("### Refused")[1]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_a_reader_is_refused_in_one_line(kind):
    values, reason = REFUSED[kind]
    with pytest.raises(InputError, match=reason) as error:
        check_reader(reader(kind, values))
    assert "\n" not in str(error.value)
