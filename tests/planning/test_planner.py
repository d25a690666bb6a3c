"""Plans against the arithmetic of named devices, and shapes against the models themselves."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from attention_distillation import files, records, settings
from attention_distillation.files import InputError
from attention_distillation.jobs import room
from attention_distillation.planning import planner as planning
from attention_distillation.planning import shapes
from attention_distillation.records import Passage, Question
from attention_distillation.settings import WORKFLOW

FULL = planning.Device("an H100", "gpu", {"bfloat16": 790.0}, 3.0, 80, 1.0, "stated for these tests")
"""What large products and copies reach on an H100, all of it used."""


def planner(on: planning.Device = FULL, results: str | Path = "nowhere", **config) -> planning.Planner:
    return planning.Planner(settings.load({"scale": "paper", **config}), on, results)


# ------------------------------------------------------------------ the roofline


def test_floors_of_a_training_step_on_an_h100():
    """Reckoned by hand: 6 ms of arithmetic and 16 ms of weights and moments; with exact search 10.7 ms more."""
    plan = planner()
    assert 1000 * plan.step_seconds("step1", "nq") == pytest.approx(22, rel=0.25)
    assert 1000 * plan.step_seconds("off_the_shelf", "nq") == pytest.approx(40, rel=0.15)


def test_the_arithmetic_of_a_step_alone():
    plan = planner(replace(FULL, bandwidth=1e9))
    assert 1000 * plan.step_seconds("step1", "nq") == pytest.approx(6, rel=0.15)


def test_floor_of_embedding():
    plan = planner()
    corpus = plan.corpora["wikipedia"]
    assert corpus.passages / plan.embedding(corpus) == pytest.approx(34_000, rel=0.1)


def test_floor_of_exact_search():
    plan = planner()
    corpus = plan.corpora["wikipedia"]
    assert plan.index_bytes(corpus) == pytest.approx(32.3e9, rel=0.01)
    assert 1000 * plan.searching(corpus, 1) == pytest.approx(10.7, rel=0.1)


def test_efficiency_slows_arithmetic_and_leaves_bandwidth():
    assert FULL.seconds(790e12, 3e12, "bfloat16") == pytest.approx(2)
    assert replace(FULL, efficiency=0.5).seconds(790e12, 3e12, "bfloat16") == pytest.approx(3)


def test_a_frozen_reader_costs_less_than_a_trained_one_and_perplexity_more_than_attention():
    plan = planner()
    assert plan.step_seconds("step2", "nq") < plan.step_seconds("off_the_shelf", "nq")
    assert plan.step_seconds("atlas", "nq") < plan.step_seconds("perplexity", "nq")


# ------------------------------------------------------------------ stages


def stages(plan: planning.Planner) -> dict[str, planning.Stage]:
    return {stage.name: stage for stage in plan.stages()}


def test_the_papers_hours_stand_beside_its_own_steps():
    told = stages(planner())
    hours = {name: stage.paper_hours for name, stage in told.items() if stage.paper_hours}
    assert len(hours) == 10 and hours["train step1, nq, seed 0"] == 30 and hours["train atlas, triviaqa, seed 0"] == 40
    fewer = {"experiments": {"step1": {"training": {"nq": {"steps": 80000}}}}}
    assert stages(planner(overrides=fewer))["train step1, nq, seed 0"].paper_hours == 15


def test_hours_are_steps_refreshes_and_validations():
    plan = planner(datasets=["nq"], experiments=["off_the_shelf"])
    corpus = plan.corpora["wikipedia"]
    seconds = stages(plan)["train off_the_shelf, nq, seed 0"].seconds
    steps = 160_000 * plan.step_seconds("off_the_shelf", "nq")
    assert seconds == pytest.approx(steps + 8 * plan.embedding(corpus) + 160 * plan.searching(corpus, 500))


def test_clipping_costs_a_pass_over_the_gradient_and_on_several_gpus_the_room_for_all_of_it():
    plans = []
    for clip, gpus in ((None, 1), (1.0, 1), (None, 2), (1.0, 2)):
        both = {"training": dict.fromkeys(("nq", "triviaqa"), {"batch_size": 2, "clip_norm": clip})}
        trained = [name for name, row in settings.read_scale("paper")["experiments"].items() if row.get("train")]
        over = {"experiments": dict.fromkeys(trained, both), "comparison": None, "compute": {"gpus": gpus}}
        plans.append(planner(overrides=over))
    reader = plans[0].shape["reader"].parameters
    free, clipped = (plan.step_seconds("step1", "nq") for plan in plans[:2])
    assert clipped - free == pytest.approx(18 * reader / 3e12)
    held = [stages(plan)["train step1, nq, seed 0"].gpu for plan in plans]
    assert held[0] == held[1] == held[2] and held[3] - held[2] == 4 * reader


def test_what_an_experiment_starts_from_is_planned_too_but_not_evaluated():
    told = stages(planner(datasets=["nq"], experiments=["step2"], seeds=[3, 4]))
    runs = [name for name in told if name.startswith(("train", "evaluate"))]
    assert runs == [
        "train step1, nq, seed 3", "train step1, nq, seed 4", "train step2, nq, seed 3", "train step2, nq, seed 4",
        "evaluate step2, nq, seed 3", "evaluate step2, nq, seed 4",
    ]  # fmt: skip
    assert "search nq, 3 retrievers" in told  # the initial one and step2's two


def test_sizes_at_the_papers_scale():
    told = stages(planner())
    assert told["embed wikipedia, initial retriever"].kept == 21_015_324 * 768 * 2
    joint = told["train off_the_shelf, nq, seed 0"]
    trained = 1_311_625_216 + 109_482_240
    assert joint.kept == 4 * trained and joint.disk == 28 * trained + 21_015_324 * 768 * 2
    assert joint.gpu > 18 * trained + 21_015_324 * 768 * 2
    assert told["train step1, nq, seed 0"].gpu < joint.gpu - 21_015_324 * 768 * 2  # it holds no index


def test_the_total_is_what_is_needed_one_after_another():
    first = planning.Stage("a", disk=10, kept=2, host=5, gpu=1, seconds=60)
    second = planning.Stage("b", disk=4, kept=3, host=1, gpu=9, seconds=None, paper_hours=2)
    whole = planning.total([first, second])
    assert (whole.disk, whole.kept, whole.host, whole.gpu) == (13, 5, 5, 9)
    assert (whole.seconds, whole.paper_hours) == (60, 2)


def test_a_device_that_is_too_small_is_told():
    assert "NOT ENOUGH GPU MEMORY" not in planning.render(planner())
    said = planning.render(planner(replace(FULL, memory=48)))
    assert "NOT ENOUGH GPU MEMORY (48 GB): train off_the_shelf, nq, seed 0;" in said


def test_the_page_says_that_nothing_was_measured_and_on_what():
    for markdown in (False, True):
        page = planning.render(planner(), markdown)
        assert "NOT measurements" in page and "an H100" in page and "stated for these tests" in page
        assert "790 TFLOP/s in bfloat16 × efficiency 1" in page
        assert all(len(line) < 130 for line in page.splitlines() if line.startswith(("│", "|")))


@pytest.mark.parametrize("name", ["miniature", "smoke"])
def test_a_generated_world_on_a_processor(name):
    plan = planning.Planner(settings.load({"scale": name}), planning.device("cpu"), "nowhere")
    page = planning.render(plan)
    assert "core time" in page and "GPU memory" not in page and "paper" not in page.split("\n\n")[1]
    assert all(stage.gpu == 0 for stage in plan.stages())


# ------------------------------------------------------------------ a large reader

SEVEN_BILLION = {
    "llama": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "hidden_act": "silu",
        "max_position_embeddings": 4096, "tie_word_embeddings": False,
    },
    "mistral": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "hidden_act": "silu",
        "max_position_embeddings": 32768, "tie_word_embeddings": False,
    },
}  # fmt: skip
PARAMETERS = {"llama": 6_738_415_616, "mistral": 7_241_732_096}
"""As both are published."""


def large(folder: Path, kind: str, adapter: dict | None, **config) -> planning.Planner:
    """Step1 of a reader of which there is a config.json and no weights yet."""
    files.write_json(folder / "config.json", SEVEN_BILLION[kind])
    step1 = {"train_adapter": adapter}
    overrides = {"models": {"reader": str(folder)}, "experiments": {"step1": step1}}
    return planner(experiments=["step1"], datasets=["nq"], overrides=overrides, **config)


@pytest.mark.parametrize("kind", SEVEN_BILLION)
def test_a_7b_reader_fits_an_80_gb_card_by_lora_and_not_with_all_its_weights(tmp_path, kind):
    count = PARAMETERS[kind]
    whole, thin = large(tmp_path, kind, None), large(tmp_path, kind, {"r": 16})
    assert whole.shape["reader"].parameters == pytest.approx(count, rel=1e-3)
    said = planning.render(whole)
    assert "NOT ENOUGH GPU MEMORY (80 GB): train step1, nq, seed 0" in said
    assert "NOT ENOUGH" not in planning.render(thin)
    stage, full = (stages(plan)["train step1, nq, seed 0"] for plan in (thin, whole))
    assert full.gpu > 18 * count and 2 * count < stage.gpu < 60e9
    assert stage.kept == pytest.approx(4 * count, rel=1e-3)  # a whole reader, whose state is small
    assert stage.disk - stage.kept < 1.2e9 < full.disk - full.kept
    # by hand: 687 tokens read forward and, for activations alone, backward; weights are read twice
    tokens = 5 * 128 + 32
    floor = 4 * count * tokens / 790e12 + 2 * 2 * count / 3e12
    assert stage.step == pytest.approx(floor, rel=0.1) and full.step > 1.5 * stage.step
    assert stage.seconds == pytest.approx(160_000 * stage.step)


def test_a_reader_in_four_bits_takes_half_a_byte_a_weight_where_it_is_not_trained(tmp_path):
    files.write_json(tmp_path / "config.json", SEVEN_BILLION["mistral"])
    held = {}
    for bits in (None, 4):
        overrides = {"models": {"reader": str(tmp_path), "reader_bits": bits}}
        plan = planner(experiments=["frozen_checkpoint", "step1"], datasets=["nq"], overrides=overrides)
        held[bits] = {name: stage.gpu for name, stage in stages(plan).items()}
    linear = PARAMETERS["mistral"] - 2 * 32000 * 4096
    for stage in ("train frozen_checkpoint, nq, seed 0", "evaluate step1, nq, seed 0"):
        assert held[None][stage] - held[4][stage] == pytest.approx(5.5 * linear, rel=1e-3)
    assert held[None]["train step1, nq, seed 0"] == held[4]["train step1, nq, seed 0"]


@pytest.mark.parametrize("kind", SEVEN_BILLION)
def test_adapters_are_counted_as_peft_makes_them(kind):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from attention_distillation.models.readers.adapters import add_adapters

    few = SEVEN_BILLION[kind] | {"num_hidden_layers": 2}
    shape = shapes.of_config(few)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**few))
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(shape.parameters, rel=1e-4)
    add_adapters(model, settings.Adapter(r=16), 0)
    learn = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert learn == 16 * shape.linear_ends


# ------------------------------------------------------------------ a user's data


@pytest.fixture
def custom(tmp_path) -> dict:
    """A config of a user's own files: 7 passages, questions in all three forms."""
    rows = [Passage(str(n), "", "word " * 90) for n in range(7)]
    files.write_jsonl(tmp_path / "p.jsonl", [vars(row) for row in rows])
    records.write_questions(tmp_path / "q.jsonl", [Question(str(n), "why ?", ["so"]) for n in range(5)])
    (tmp_path / "q.tsv").write_text('question\tanswers\nwhy ?\t["so"]\n')
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"question": ["a", "b", "c"]}), tmp_path / "q.parquet")
    splits = dict(zip(("train", "dev", "test"), ("q.jsonl", "q.tsv", "q.parquet"), strict=True))
    questions = {split: str(tmp_path / name) for split, name in splits.items()}
    return {"passages": str(tmp_path / "p.jsonl"), "questions": questions, "pretrain": True}


def test_a_users_files_are_counted(custom, tmp_path):
    plan = planner(planning.device("cpu"), tmp_path, scale="custom", custom=custom)
    assert plan.questions("custom") == {"train": 5, "dev": 1, "test": 3}
    corpus = plan.corpora["corpus"]
    assert corpus.passages == 7 and 100 <= corpus.tokens <= 120 and not corpus.known
    assert planning.render(plan)


def test_other_forms_of_a_users_files_are_counted(custom, tmp_path):
    import gzip

    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.tsv.gz").write_bytes(gzip.compress(b"1\tone two\n2\tthree\n"))
    (tmp_path / "q.json").write_text('[{"question": "why", "answer": ["so"]}]')
    custom["passages"], custom["questions"]["train"] = str(tmp_path / "c"), str(tmp_path / "q.json")
    plan = planner(planning.device("cpu"), tmp_path, scale="custom", custom=custom)
    assert plan.questions("custom")["train"] == 1 and plan.corpora["corpus"].passages == 2


def test_a_tokenised_corpus_is_read_off_its_files(custom, tmp_path):
    folder = tmp_path / "corpus" / "corpus"
    folder.mkdir(parents=True)
    np.save(folder / "offsets.npy", np.array([0, 10, 30, 60]))
    (folder / "passages.arrow").write_bytes(b"x" * 500)
    plan = planner(planning.device("cpu"), tmp_path, scale="custom", custom=custom)
    assert plan.corpora["corpus"] == planning.Corpus(3, 20, 500, True)


def test_what_no_plan_can_be_made_for(custom, tmp_path):
    custom["passages"] = str(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        planner(planning.device("cpu"), scale="custom", custom=custom).stages()
    other = {"corpora": {"wikipedia": {"source": "enwiki_dec2018"}}}
    with pytest.raises(InputError, match="nobody states how many passages 'enwiki_dec2018' has"):
        planner(overrides=other).stages()
    with pytest.raises(InputError, match="nothing is known of the size of 'some/model'.*fetch it"):
        planner(overrides={"models": {"reader": "some/model"}}).stages()


def test_an_unknown_device_is_refused_with_the_one_that_was_meant():
    with pytest.raises(InputError, match="there is no device 'h10'; did you mean 'h100'"):
        settings.load({"scale": "paper", "overrides": {"compute": {"device": "h10"}}})


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize("kind", settings.MODEL_KINDS)
def test_a_models_shape_is_that_of_its_weights(kind):
    from safetensors import safe_open

    folder = WORKFLOW / "pretrained" / "miniature" / kind
    with safe_open(folder / "model.safetensors", "np") as file:
        sizes = {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    shape = shapes.of_model(str(folder), kind, "nowhere", None, True)
    assert shape.parameters == sum(sizes.values()) == room.weights(folder)
    products = [size for name, size in sizes.items() if name.endswith("weight") and "norm" not in name.lower()]
    tables = [size for name, size in sizes.items() if "embed" in name or "shared" in name]
    if kind != "encoder_decoder":
        assert shape.context_weights == pytest.approx(sum(products) - sum(tables), rel=0.02)
    else:
        crossed = sum(size for name, size in sizes.items() if name.endswith(("EncDecAttention.k.weight",
                                                                              "EncDecAttention.v.weight")))  # fmt: skip
        encoder = sum(size for name, size in sizes.items() if name.startswith("encoder.block"))
        decoder = sum(size for name, size in sizes.items() if name.startswith("decoder.block"))
        assert shape.context_weights == pytest.approx(encoder + crossed, rel=0.01)
        assert shape.answer_weights == pytest.approx(decoder - crossed + 541 * 128, rel=0.01)


@pytest.mark.parametrize("kind", settings.MODEL_KINDS)
def test_a_model_that_is_to_be_pretrained_has_the_shape_that_it_will_have(kind):
    shape = settings.load({}).scale.models.pretraining
    planned = shapes.of_model(None, kind, "nowhere", shape, True)
    made = shapes.of_model(str(WORKFLOW / "pretrained" / "miniature" / kind), kind, "nowhere", None, True)
    assert planned.parameters == pytest.approx(made.parameters, rel=0.02)
    assert (planned.layers, planned.width, planned.vocabulary) == (made.layers, made.width, made.vocabulary)


def test_the_table_of_published_models_agrees_with_itself():
    """Weights added up from layers and widths are those that the model is published with."""
    for row in shapes._published().values():
        assert shapes.of_config(row).parameters == pytest.approx(row["parameters"], rel=0.01)


def test_the_models_inside_packages_are_known_by_name():
    """And Appendix E's hours are those of the paper's own models."""
    named = {"reader": "smollm2-135m-instruct", "retriever": "all-minilm-l6-v2"}
    plan = planner(overrides={"models": named}, experiments=["step1", "step2"])
    told = stages(plan)
    own = stages(
        planner(
            overrides={"models": named | {"reader": str(WORKFLOW / "pretrained" / "miniature" / "reader")}},
            experiments=["step1", "step2"],
        )
    )["download"].kept
    assert told["download"].kept - own == pytest.approx(9.287e7 + 4 * 134_515_008, rel=1e-3)
    assert told["train step1, nq, seed 0"].kept == 4 * 134_515_008
    assert told["train step2, nq, seed 0"].kept == 4 * 22_713_216
    assert not any(stage.paper_hours for stage in told.values())


def test_a_pair_of_encoders_is_planned_with_the_weights_of_both():
    one = str(WORKFLOW / "pretrained" / "miniature" / "retriever")
    plans = [
        planner(overrides={"models": {"retriever": given}}, experiments=["step2"], datasets=["nq"])
        for given in (one, {"question": one, "passage": one})
    ]
    single, pair = (stages(plan)["train step2, nq, seed 0"].kept for plan in plans)
    assert pair == 2 * single == 8 * room.weights(one)


def test_every_device_says_where_its_figures_are_from():
    for name in ("h100", "h200", "a100", "l40s", "cpu"):
        on = planning.device(name)
        assert on.origin and 0 < on.efficiency <= 1 and {"bfloat16", "float32"} == set(on.tflops)
