"""Families of causal models: read, checked, recorded against float64 attention by its definition, trained a step."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
)

from attention_distillation.files import InputError
from attention_distillation.models.readers import DecoderOnlyReader, FusionInDecoderReader
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
ELSEWHERE = {"falcon"}
"""Whose eager path adds a boolean mask as a number (tests/models/test_attention.py has the reference)."""
OLDER = {"bloom", "mpt"}
"""Classes that no attention of one's own can be given to: their eager matrices are the reference, in float64."""
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


SEEN: list[tuple[torch.Tensor, torch.Tensor]] = []
"""α and ‖v‖ of each layer of the reference's last forward, (heads, T, T) and (heads, T)."""


def naive_attention(module, query, key, value, _mask, scaling=None, softcap=None, s_aux=None, sliding_window=None, **_):
    """Attention by its definition: of one sequence without padding, its mask made here."""
    heads, length, size = query.shape[1:]
    key, value = (part.repeat_interleave(heads // part.shape[1], 1) for part in (key, value))
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * (size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    back = torch.arange(length)[:, None] - torch.arange(length)[None]  # how far a key lies before a query
    hidden = back < 0 if sliding_window is None else (back < 0) | (back >= sliding_window)
    weight = scores.masked_fill(hidden, -torch.inf).exp()  # small scores: nothing overflows
    total = weight.sum(-1, keepdim=True)
    if s_aux is not None:
        total = total + s_aux.double().exp().view(1, -1, 1, 1)
    alpha = weight / total
    SEEN.append((alpha[0], value[0].norm(dim=-1)))
    return torch.einsum("bhij,bhjd->bihd", alpha, value), None


AttentionInterface.register("naive", naive_attention)
AttentionMaskInterface.register("naive", lambda *_args, **_options: None)


def reference(kind: str, values: dict, made: DecoderOnlyReader, encoded, value_norm: bool) -> torch.Tensor:
    """a_t of eq. 1, float64 (T,), of the same weights in float64; classes cast norms and rotary angles to float32."""
    SEEN.clear()
    plain = reader(kind, values, "eager" if kind in OLDER else "naive")
    plain.load_state_dict(made.state_dict())
    plain.model.set_experts_implementation("eager")  # the fused product of experts knows no float64
    with torch.no_grad():
        out = plain.double().model(input_ids=encoded.ids, use_cache=False, output_attentions=kind in OLDER)
    layers = [(one[0], None) for one in out.attentions] if kind in OLDER else SEEN
    assert len(layers) == FAMILIES[kind][1]
    answers, total = encoded.labels.shape[1], 0.0
    for alpha, norms in layers:
        rows = alpha[:, -1 - answers : -1]
        total = total + (rows * norms[:, None] if value_norm else rows).mean((0, 1))
    return total / len(layers)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_read_recorded_and_trained(kind):
    values, recorded, layers = FAMILIES[kind]
    made = reader(kind, values)
    facts = check_reader(made)  # causal, recorded, alike with and without padding, generates
    assert (facts["layers_recorded"], facts["layers"]) == (recorded, layers)

    encoded = made.encode(["who was ada"], [[("ada", "ada died ."), ("", "bay")]], ["bay"])
    if kind not in ELSEWHERE:
        for value_norm in (False, True):
            if value_norm and kind in OLDER:  # no values are given
                continue
            with torch.no_grad():
                own = made(encoded, record=True, value_norm=value_norm).token_attention[0].double()
            expected = reference(kind, values, made, encoded, value_norm)
            off = (own - expected).abs().max() / expected.max()
            assert off < 5e-6, (value_norm, off)

    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    optimiser = Optimiser({"reader": made.train()})
    made(encoded).answer_loss.mean().backward()
    optimiser.step({"reader": 1e-3})
    assert any(not torch.equal(weight, before[name]) for name, weight in made.state_dict().items())


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3_text", "cohere2", "gpt_oss"])
def test_a_prompt_longer_than_the_window_is_recorded_as_the_layers_see_it(kind):
    """Of two layers the first, or both, see 12 tokens: nothing of the first passage reaches the answer there."""
    values = FAMILIES[kind][0] | {"sliding_window": 12}
    if kind != "mistral":  # all of its layers have the window
        values["layer_types"] = ["sliding_attention", "full_attention"]
    made = reader(kind, values)
    facts = check_reader(made)
    assert (facts["layers_with_window"], facts["window"]) == (2 if kind == "mistral" else 1, 12)

    passages = [("ada", "ada died in a bay ."), ("bay", "the bay ."), ("", "ada bay")]
    encoded = made.encode(["who was ada"], [passages], ["bay"])
    with torch.no_grad():
        output = made(encoded, record=True, value_norm=False)
    own = output.token_attention[0].double()
    expected = reference(kind, values, made, encoded, False)
    assert (own - expected).abs().max() / expected.max() < 5e-6
    far = (encoded.prompt[0] == 0).nonzero().flatten()
    near = SEEN[0][0][:, -3:-1, far]
    assert near.numel() and (near == 0).all() and encoded.ids.shape[1] > 24
    assert (own[far] == 0).all() if kind == "mistral" else (own[far] > 0).all()


def test_of_a_directory_with_a_model_of_images_the_text_model_is_taken(tmp_path):
    """As Gemma 3 is published: its answers' losses are the whole model's."""
    tokenizer = models.tokenizer("falcon_alibi")
    text = {
        **GROUPED,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "sliding_window": 256,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    torch.manual_seed(0)
    whole = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=5)
    ).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = DecoderOnlyReader.load(tmp_path, **LIMITS)
    assert type(made.model).__name__ == "Gemma3ForCausalLM"
    assert check_reader(made)["layers_recorded"] == 2
    assert sum(weight.numel() for weight in made.parameters()) < sum(weight.numel() for weight in whole.parameters())

    encoded = made.encode(["who was ada"], [[("ada", "ada died ."), ("", "bay")]], ["bay"])
    with torch.no_grad():
        logits = whole(input_ids=encoded.ids).logits[:, -1 - encoded.labels.shape[1] : -1]
        loss = torch.nn.functional.cross_entropy(logits[0], encoded.labels[0])
        assert made(encoded).answer_loss.item() == pytest.approx(loss.item(), rel=1e-5)

    made.save(tmp_path / "saved")
    again = DecoderOnlyReader.load(tmp_path / "saved", **LIMITS)
    with torch.no_grad():
        assert torch.equal(again(encoded).answer_loss, made(encoded).answer_loss)


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


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
def test_an_encoder_decoder_is_of_the_class_that_its_config_names(kind, tmp_path):
    """Saved, read again, recorded against its own cross-attention in float64, trained a step."""
    tokenizer = models.tokenizer("t5")
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = models.randomise(AutoModelForSeq2SeqLM.from_config(config)).eval()
    plain.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = FusionInDecoderReader.load(tmp_path, **LIMITS)
    assert type(made.model) is type(plain) and type(made.model).__name__.lower().startswith(f"{kind}for")
    assert check_reader(made)["layers_recorded"] == 2

    encoded = made.encode(["who was ada"], [[("ada", "ada died .")]], ["bay"])
    with torch.no_grad():
        output = made(encoded, record=True, value_norm=False)
        plain.set_attn_implementation("eager")
        whole = plain.double()(input_ids=encoded.ids[0], labels=encoded.labels, output_attentions=True)
    expected = torch.stack([one[0].mean((0, 1)) for one in whole.cross_attentions]).mean(0)
    assert output.answer_loss.item() == pytest.approx(whole.loss.item(), rel=1e-5)
    assert (output.token_attention[0].double() - expected).abs().max() / expected.max() < 5e-6

    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    optimiser = Optimiser({"reader": made.train()})
    made(encoded).answer_loss.mean().backward()
    optimiser.step({"reader": 1e-3})
    assert any(not torch.equal(weight, before[name]) for name, weight in made.state_dict().items())


@pytest.mark.parametrize("kind", ["bart", "mbart", "pegasus"])
def test_other_encoder_decoders_are_refused_in_one_line(kind):
    config = AutoConfig.for_model(kind)
    for made, reason in ((FusionInDecoderReader, "is none of t5, mt5, umt5"), (DecoderOnlyReader, "has an encoder")):
        with pytest.raises(InputError, match=reason) as error:
            made.model_class(config)
        assert "\n" not in str(error.value)
