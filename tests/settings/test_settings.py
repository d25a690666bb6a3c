"""Settings: every file agrees with the schema, and whatever is misspelt, mistyped or missing is told by its key."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from attention_distillation import files, provenance, settings
from attention_distillation.files import InputError
from attention_distillation.settings import Config, World, load, merged, read_scale

ROOT = Path(__file__).parents[2]
SCALES = sorted(path.stem for path in (ROOT / "workflow" / "scales").glob("[!_]*.yaml"))
CUSTOM = {
    "passages": "p.jsonl", "questions": {"train": "a", "dev": "b", "test": "c"}, "pretrain": True,
    "nouns": "content_words",
}  # fmt: skip
CONTROLS = {
    "own_control": {"title": "My control", "control": True, "reader": "step1", "distillation": {"context": "none"}}
}


def over(**changes) -> dict:
    return {"scale": "miniature", "overrides": changes}


def config_of(scale: str) -> dict:
    return {"scale": scale, "custom": CUSTOM} if scale.startswith("custom") else {"scale": scale}


def fault(config: dict) -> str:
    with pytest.raises(InputError) as error:
        load(config)
    return str(error.value)


# ------------------------------------------------------------------ the files as they are


def test_config_yaml_holds_the_defaults_and_every_key():
    values = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    assert Config(**values) == Config()
    assert set(values) == set(Config.model_fields)


def test_every_key_of_the_config_has_a_comment_above():
    lines = (ROOT / "config.yaml").read_text("utf-8").splitlines()
    for key in Config.model_fields:
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"{key}:")]
        assert lines[place - 1].startswith("#"), key


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_loads_with_the_six_experiments(scale):
    run = load(config_of(scale))
    without_t5 = ["checkpoint", "off_the_shelf", "step1", "step2"]
    assert run.experiments == (without_t5 if scale == "miniature_long" else list(settings.MAIN))
    assert run.seeds == [0] and run.datasets == list(run.scale.datasets)
    for name in run.scale.experiments:
        distillation = run.scale.distillation_of(name)
        assert distillation.tau_gold > 0
        for dataset in run.datasets if run.scale.experiments[name].train else []:
            training = run.scale.training_of(name, dataset)
            assert training.warmup_steps < training.steps


@pytest.mark.parametrize("scale", SCALES)
def test_the_experiments_are_the_method_s(scale):
    """The table of experiments: architecture, start, what is trained, signal, what is analysed."""
    experiments = load(config_of(scale)).scale.experiments
    found = {
        name: (e.architecture, e.reader, e.retriever, sorted(e.train), e.signal, e.analysis)
        for name, e in experiments.items()
        if not e.control
    }
    falcon, t5, both = "decoder_only", "encoder_decoder", ["reader", "retriever"]
    assert found == {
        "checkpoint": (falcon, "initial", "initial", [], "none", "attention"),
        "off_the_shelf": (falcon, "initial", "initial", both, "attention", "attention"),
        "step1": (falcon, "initial", "initial", ["reader"], "none", "attention"),
        "step2": (falcon, "step1", "initial", ["retriever"], "attention", "attention"),
        "atlas": (t5, "initial", "initial", both, "attention", "attention"),
        "perplexity": (t5, "initial", "initial", both, "perplexity", "perplexity"),
    }


APPENDIX_E = """
off_the_shelf nq       reader+retriever 1e-5 160000 2000 40
off_the_shelf triviaqa reader+retriever 1e-5 320000 4000 60
step1         nq       reader           1e-5 160000 2000 30
step1         triviaqa reader           1e-5 320000 4000 45
step2         nq       retriever        5e-7   6000  300  2
step2         triviaqa retriever        5e-7  32000  600  3
atlas         nq       reader+retriever 4e-5  10000  500 20
atlas         triviaqa reader+retriever 4e-5  30000  600 40
perplexity    nq       reader+retriever 4e-5  20000 1000 40
perplexity    triviaqa reader+retriever 4e-5  10000  500 15
"""  # what is trained, learning rate, steps, warm-up, hours on an A100; batch 1, lengths 128 and 32


def test_the_paper_s_numbers_are_appendix_e_s():
    scale = load({"scale": "paper"}).scale
    with open(ROOT / "workflow" / "reference" / "hours.csv", encoding="utf-8") as file:
        hours = {(row["experiment"], row["dataset"]): row["hours_on_one_a100"] for row in csv.DictReader(file)}
    rows = [line.split() for line in APPENDIX_E.strip().splitlines()]
    assert len(hours) == len(rows)
    for experiment, dataset, trained, rate, steps, warmup, taken in rows:
        training = scale.training_of(experiment, dataset)
        numbers = (training.learning_rate, training.steps, training.warmup_steps, training.batch_size)
        assert numbers == (float(rate), int(steps), int(warmup), 1), (experiment, dataset)
        assert scale.experiments[experiment].train == trained.split("+")
        assert hours[experiment, dataset] == taken
    assert (scale.prompt.passage_max_tokens, scale.prompt.answer_max_tokens) == (128, 32)
    assert scale.training_of("step2", "nq").learning_rate == 5e-7 and scale.training_of("atlas", "nq").steps == 10000
    assert (scale.retrieval.k, scale.analysis.instances, scale.distillation.tau_gold) == (5, 1000, 2.56)
    assert scale.distillation_of("perplexity").tau_gold == 0.01
    assert scale.training_of("step1", "nq").refresh_every == 20000
    assert scale.training_of("step2", "nq").refresh_every == 3000


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"seed": [1]}, ["config:", "seed: unknown key; did you mean 'seeds'?"]),
        ({"scale": "minature"}, ["'scale'", "no scale 'minature'; did you mean 'miniature'?"]),
        ({"scale": "x"}, ["no scale 'x'; known: ", "custom", "paper"]),
        ({"seeds": []}, ["seeds:", "at least 1"]),
        ({"seeds": [-1]}, ["seeds.0:", "greater than or equal to 0 (it is -1)"]),
        ({"seeds": ["one"]}, ["seeds.0:", "'one'"]),
        ({"datasets": "nq"}, ["datasets:", "list", "'nq'"]),
        ({"datasets": ["nqq"]}, ["'datasets': there is no 'nqq'; did you mean 'nq'?"]),
        ({"experiments": ["step3"]}, ["'experiments': there is no 'step3'; did you mean 'step"]),
        ({"seeds": [0, 0]}, ["'seeds'", "0 stands there twice"]),
        ({"datasets": ["nq", "nq"]}, ["'datasets'", "nq stands there twice"]),
        (over(retreival={"k": 5}), ["scale 'miniature' with overrides", "retreival: unknown key", "'retrieval'"]),
        (over(distillation={"tau_god": 1}), ["distillation.tau_god: unknown key; did you mean 'tau_gold'?"]),
        (over(distillation={"tau_gold": 0}), ["distillation.tau_gold:", "greater than 0 (it is 0)"]),
        (over(retrieval={"k": "five"}), ["retrieval.k:", "(it is 'five')"]),
        (over(retrieval={"index": "hnsw"}), ["retrieval.index:", "'exact' or 'ivfpq'"]),
        (over(corpora={"nq": {"passages": "p.jsonl"}}), ["corpora.nq: give exactly one of world, passages, source"]),
        (over(corpora={"nq": {"world": {"peeple": 3}}}), ["corpora.nq.world.peeple: unknown key", "'people'"]),
        (over(datasets={"nq": {"corpus": "nqq"}}), ["datasets.nq.corpus: 'nqq' is not under corpora"]),
        (over(experiments={"step2": {"reader": "stp1"}}), ["experiments.step2.reader", "'stp1'", "mean 'step1'?"]),
        (over(experiments={"checkpoint": {"reader": "checkpoint"}}), ["checkpoint.reader: starts from itself"]),
        (
            over(experiments={"checkpoint": {"retriever": "step1"}, "step1": {"retriever": "checkpoint"}}),
            [".retriever: starts from itself (", "checkpoint ← step1"],
        ),
        (over(experiments={"step1": {"signal": "attention"}}), ["experiments.step1: a retriever is trained exactly"]),
        (over(experiments={"step2": {"signal": "none"}}), ["experiments.step2: a retriever is trained exactly where"]),
        (
            over(experiments={"step2": {"training": {"default": {"retriever_learning_rate": 1e-5}}}}),
            ["experiments.step2: training.default.retriever_learning_rate", "'train' has retriever, whose rate"],
        ),
        (over(models={"reader_bits": 4}), ["models.reader_bits: 8 or 4 bits are for a GPU; set compute.gpus"]),
        (
            over(experiments={"step2": {"train_adapter": {"r": 8}}}),
            ["experiments.step2: train_adapter: it is for a reader that is trained"],
        ),
        (
            over(experiments={"step1": {"train_adapter": {"rank": 8}}}),
            ["experiments.step1.train_adapter.rank: unknown key; known: r, alpha"],
        ),
        (
            over(experiments={"step1": {"train_adapter": {"targets": "q_proj"}}}),
            ["experiments.step1.train_adapter.targets: 'q_proj' is neither all-linear nor a list of names"],
        ),
        (
            over(experiments={"step2": {"distillation": {"tau_god": 1.0}}}),
            ["experiments.step2.distillation.tau_god: unknown key; did you mean 'tau_gold'?"],
        ),
        (
            over(experiments={"step2": {"distillation": {"context": "none"}}}),
            ["experiments.step2.distillation.context: none", "retriever"],
        ),
        (over(experiments={"new": {}}), ["experiments.new.title: missing; give it"]),
        (over(experiments={"new": {"title": "N", "train": ["reader"]}}), ["experiments.new: 'train' is not empty"]),
        (
            over(experiments={"new": {"title": "N", "train": ["reader"], "training": {"other": {
                "learning_rate": 1, "steps": 1, "refresh_every": 1}}}}),
            ["experiments.new.training: neither 'nq' nor 'default' is there"],
        ),
        (
            {"scale": "paper", "overrides": {"compute": {"gpus": 2}}},
            ["experiments.off_the_shelf.training.nq.batch_size: 2 GPUs cannot share 1", "compute.gpus to 1"],
        ),
        (over(experiments={"random": {"title": "R"}}), ["experiments.random: the name is taken"]),
        (
            {**over(models={"reader": None, "pretraining": None}), "experiments": ["step2"]},
            ["experiment 'step2' needs overrides.models.reader", "give models.pretraining"],
        ),
        ({"scale": "custom"}, ["scale 'custom' and the key 'custom'", "go together: give it"]),
        ({"custom": CUSTOM}, ["scale 'miniature' and the key 'custom'", "set scale to custom or custom_checkpoints"]),
        (over(experiments={"step1": {"training": {"default": {"warmup_steps": 500}}}}), ["warmup_steps: 500 of 200"]),
        (
            {"scale": "custom", "custom": {**CUSTOM, "pretrain": False}},
            ["needs custom.reader and custom.retriever", "pretrain: true"],
        ),
        ({"scale": "custom", "custom": {**CUSTOM, "passage": "p"}}, ["custom.passage: unknown key", "'passages'"]),
        ({"scale": "custom", "custom": {"pretrain": True}}, ["custom.passages: missing", "custom.questions: missing"]),
        ({"scale": "custom", "custom": {**CUSTOM, "questions": {"train": "a"}}}, ["needs all of train, dev, test"]),
        ({"scale": "custom", "custom": {**CUSTOM, "name": "a/b"}}, ["custom.name:", "'a/b'"]),
        (
            {"scale": "custom", "custom": CUSTOM, "overrides": {"analysis": {"nouns": "world"}}},
            ["analysis.nouns: 'world' is for generated worlds"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_key(config, said):
    message = fault(config)
    assert all(part in message for part in said), message
    assert "Traceback" not in message and "pydantic" not in message


def test_all_faults_are_told_at_once():
    message = fault(over(retrieval={"k": 0, "kk": 1}, prompt={"answer_max_tokens": -1}))
    assert len(message.splitlines()) == 4 and "retrieval.kk: unknown key" in message


def test_overrides_that_are_no_mapping():
    assert "overrides:" in fault({"overrides": "k=5"})


# ------------------------------------------------------------------ what is resolved


def test_overrides_are_laid_over_key_by_key():
    run = load(over(retrieval={"k": 3}, experiments={"step2": {"distillation": {"tau_gold": 0.03}}, **CONTROLS}))
    assert run.scale.retrieval.k == 3 and run.scale.retrieval.passage_max_tokens == 96
    assert run.scale.distillation_of("step2").tau_gold == 0.03
    assert run.scale.distillation_of("step2").theta == run.scale.distillation.theta
    assert run.scale.distillation_of("off_the_shelf") == run.scale.distillation
    assert run.scale.experiments["step2"].train == ["retriever"]
    assert "own_control" in run.scale.experiments and "own_control" not in run.experiments  # a control, not the paper's


def test_merging_leaves_its_arguments_alone():
    base, above = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}
    assert merged(base, above) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]} and merged({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_a_scale_extends_another():
    small, whole = read_scale("smoke"), read_scale("miniature")
    assert small["name"] == "smoke" and "extends" not in small
    assert small["models"] == whole["models"] and small["corpora"]["nq"]["world"]["people"] == 30
    assert small["corpora"]["nq"]["world"]["seed"] == whole["corpora"]["nq"]["world"]["seed"]


def test_a_scale_that_is_not_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(settings.loading, "WORKFLOW", tmp_path)
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales" / "mine.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match=r"mine\.yaml: not YAML"):
        read_scale("mine")


def test_what_scales_extend_is_no_scale_and_must_be_there(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no scale '_experiments'"):
        read_scale("_experiments")
    monkeypatch.setattr(settings.loading, "WORKFLOW", tmp_path)
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales" / "mine.yaml").write_text("extends: _nothing\n")
    with pytest.raises(InputError, match=r"_nothing\.yaml: there is no such file"):
        read_scale("mine")


def test_every_scale_has_the_paper_s_experiments_from_one_file():
    shared = yaml.safe_load((ROOT / "workflow" / "scales" / "_experiments.yaml").read_text("utf-8"))["experiments"]
    assert tuple(name for name, row in shared.items() if not row.get("control")) == settings.MAIN
    for name in SCALES:
        experiments = read_scale(name)["experiments"]
        assert list(experiments)[: len(shared)] == list(shared)
        assert all(experiments[each].items() >= row.items() for each, row in shared.items()), name


def test_where_models_come_from():
    scale = load(over(experiments=CONTROLS)).scale
    origins = {(name, part): scale.origin(name, part) for name in scale.experiments for part in ("reader", "retriever")}
    assert origins["checkpoint", "reader"] == origins["checkpoint", "retriever"] == "initial"
    assert origins["step1", "reader"] == "step1" and origins["step1", "retriever"] == "initial"
    assert origins["step2", "reader"] == "step1" and origins["step2", "retriever"] == "step2"
    assert origins["own_control", "reader"] == "step1"
    changed = load(over(experiments={"checkpoint": {"retriever": "random"}})).scale
    assert changed.origin("checkpoint", "retriever") == "random"


def test_asking_for_less():
    run = load({"datasets": ["triviaqa"], "experiments": ["atlas", "step1"], "seeds": [3, 1]})
    assert (run.datasets, run.experiments, run.seeds) == (["triviaqa"], ["atlas", "step1"], [3, 1])


def test_custom_data_and_models():
    own = {**CUSTOM, "name": "mine", "title": "Mine", "pretrain": False}
    models = {"reader": "my/falcon", "encoder_decoder": "my/t5", "retriever": "my/bert"}
    scale = load({"scale": "custom", "custom": {**own, **models}}).scale
    assert scale.name == "mine" and list(scale.datasets) == ["mine"] and scale.datasets["mine"].title == "Mine"
    assert scale.models.reader == "my/falcon" and scale.corpora["corpus"].passages == "p.jsonl"
    assert scale.analysis.nouns == "content_words"
    mixed = load({"scale": "custom", "custom": {**CUSTOM, "reader": "my/falcon"}}).scale
    assert mixed.models.reader == "my/falcon" and mixed.models.retriever is None and mixed.models.pretraining


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        load({}).scale.retrieval.k = 7
    assert World(variant="nq").people == World(variant="nq", people=220).people


def test_the_schemas_for_editors_are_those_of_the_models():
    folder = settings.WORKFLOW / "schemas"
    for name, schema in settings.schemas().items():
        assert files.read_json(folder / f"{name}.schema.json") == schema, "run 'make schemas'"


def test_what_is_behind_a_number():
    """Its own settings and those of the run that it starts from; not titles, nor how other runs are trained."""

    def behind(**changes) -> str:
        return provenance.digest(load({"scale": "miniature", "overrides": changes}).scale.behind("step2", "nq"))

    def step(name: str, **changes) -> dict:
        return {"experiments": {name: changes}}

    rate = {"training": {"default": {"learning_rate": 3e-5}}}
    same = behind()
    for changes in (step("off_the_shelf", **rate), step("step2", title="Two"), {"compute": {"train_threads": 2}}):
        assert behind(**changes) == same
    for changes in (
        step("step2", **rate), step("step1", **rate), step("step2", distillation={"theta": 0.5}),
        {"retrieval": {"k": 4}}, {"corpora": {"nq": {"world": {"people": 31}}}},
        {"models": {"reader": "tiiuae/falcon-rw-1b"}},
    ):  # fmt: skip
        assert behind(**changes) != same, changes
    first = load({"scale": "miniature"}).scale
    assert set(first.behind("step2", "nq")["runs"]) == {"step1", "step2"}
    assert "training" not in first.behind("checkpoint", "nq")["runs"]["checkpoint"]


def test_experiments_whose_models_are_not_there_are_left_out():
    """With a reader and a retriever alone nobody needs a T5; asked for by name, what lacks one is an error."""
    own = {**CUSTOM, "pretrain": False, "reader": "my/falcon", "retriever": "my/bge"}
    run = load({"scale": "custom", "custom": own})
    assert run.experiments == ["checkpoint", "off_the_shelf", "step1", "step2"]
    assert run.left_out == {"atlas": ["encoder_decoder"], "perplexity": ["encoder_decoder"]}
    with pytest.raises(InputError, match=r"experiment 'atlas' needs custom\.encoder_decoder: name a model"):
        load({"scale": "custom", "custom": own, "experiments": ["step1", "atlas"]})


# ------------------------------------------------------------------ the comparison of signals


def test_a_comparison_is_every_signal_teacher_rate_and_gate():
    scale = load({"scale": "signals_11"}).scale
    cells = scale.comparison.cells()
    assert len(cells) == len(set(cells)) == (5 * 2 + 3) * 2 * 2
    for cell in cells:
        row = scale.experiments[cell.name]
        assert row.train == ["retriever"] and row.signal == cell.signal
        assert scale.distillation_of(cell.name).skip == cell.skip
        assert scale.distillation_of(cell.name).tau_unit == "spread"
        assert row.reader == {"untouched": "initial", "fine_tuned": "step1", "nobody": "initial"}[cell.teacher]
    assert scale.corpora["nq"].world.seed == 11 and scale.models.retriever is None


def test_a_gate_that_asks_a_reader_has_no_run_without_one():
    over = {"comparison": {"skip": ["low_gain"]}}
    cells = load({"scale": "signals_11", "overrides": over}).scale.comparison.cells()
    assert {cell.teacher for cell in cells} == {"untouched", "fine_tuned"}


@pytest.mark.parametrize("name", ["nobody", "fine-tuned"])
def test_a_teacher_s_name_is_part_of_a_file_s(name):
    said = fault({"scale": "signals_11", "overrides": {"comparison": {"teachers": {name: "initial"}}}})
    assert name in said and "comparison" in said
