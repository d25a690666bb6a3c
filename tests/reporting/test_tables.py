"""Rows, layouts and the comparison with the paper: from a made-up results folder, and against naive means."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from attention_distillation import settings
from attention_distillation.analysis import token_analysis as ta
from attention_distillation.files import InputError
from attention_distillation.reporting import layouts, measurable, tables, typesetting
from attention_distillation.reporting.labels import labels as labels_of
from attention_distillation.reporting.labels import measure, named

REFERENCE = Path(__file__).parents[2] / "workflow" / "reference"
SHARED = Path(__file__).parents[3] / "shared"
PERCENTILES = ta.PERCENTILES


def shared(name: str) -> Path | None:
    """A file of the folder that developers share, or None where there is none."""
    path = SHARED / name
    return path if path.exists() else None


def analysed(paths, replicates=200):
    """Units, predictions and measures of a made-up results folder."""
    frames = []
    for path in paths["attention.parquet"]:
        dataset, experiment, seed = tables.run_of(path)
        frames.append(ta.analyse_units(ta.read_dump(path)[0]).assign(dataset=dataset, experiment=experiment, seed=seed))
    units, predictions = pd.concat(frames), tables.read_predictions(paths["predictions.jsonl"])
    scores = tables.score_measures(predictions, replicates)
    return units, predictions, {**scores, **tables.unit_measures(units, PERCENTILES, replicates)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return analysed(synthetic.make(tmp_path_factory.mktemp("results"), seeds=(0, 2)))


def pages(made, labels):
    units, _, measures = made
    counts = tables.unit_count_rows(units, PERCENTILES)
    made_of = tables.by_table(tables.as_rows(measures), counts, labels["decoder_only"])
    signal = tables.as_rows(tables.signal_measures(units, 50))
    return made_of | {"signal": signal, "controls": made_of["table1"]}  # controls are told as Table 1 is


# ------------------------------------------------------------------ paths and files


def test_a_run_is_read_off_its_path():
    assert tables.run_of("results/custom/my set/step1/seed12/log.jsonl") == ("my set", "step1", 12)
    with pytest.raises(InputError, match="seed<N>"):
        tables.run_of("results/miniature/tables/table1.csv")


def test_rows_survive_their_file_and_equal_rows_give_equal_bytes(tmp_path, made):
    rows = tables.as_rows(made[2])
    for name in "ab":
        tables.write_rows(tmp_path / name, rows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    back = tables.read_rows(tmp_path / "a")
    assert list(back.columns) == list(tables.COLUMNS)
    assert (back[list(tables.KEY)] == rows[list(tables.KEY)]).all(axis=None)
    assert back["mean"].to_numpy() == pytest.approx(rows["mean"].to_numpy(), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [("table,experiment\n1,a\n", "column 'dataset' is missing"), (None, "line 2: 'much' under 'mean' is no number")],
)
def test_a_faulty_table_is_told(tmp_path, text, words):
    text = text or ",".join(tables.COLUMNS) + "\n1,a,nq,em,,,much,,,,\n"
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        tables.read_rows(tmp_path / "t.csv")


def test_a_faulty_prediction_is_told(tmp_path):
    path = tmp_path / "nq/step1/seed0/predictions.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"id": 1, "em": 1, "f1": 0.5}\n')
    with pytest.raises(InputError, match=r"line 1: 'hit' is missing"):
        tables.read_predictions([path])


# ------------------------------------------------------------------ numbers


def test_table_1_is_the_mean_over_seeds_and_questions(made):
    _, predictions, measures = made
    part = predictions[(predictions["dataset"] == "nq") & (predictions["experiment"] == "step2")]
    found = measures["1", "step2", "nq", "em", "", ""]
    assert found.estimate.value == pytest.approx(part["em"].mean())
    assert found.std == pytest.approx(part.groupby("seed")["em"].mean().std())
    assert found.n == 240


def test_tables_3_and_4_are_over_units(made):
    units, _, measures = made
    for (number, experiment, dataset, statistic, target, percentile), found in measures.items():
        if target:
            part = units[(units["dataset"] == dataset) & (units["experiment"] == experiment)]
            values = part[f"{statistic}_{target}_{percentile}"]
            assert number == {"answer": "3", "question": "4"}[target]
            assert found.estimate.value == pytest.approx(values.mean())
            assert found.std == pytest.approx(values.std()) and found.n == values.count()


def test_appendix_c_is_over_instances_within_seeds(made):
    units, _, measures = made
    part = units[(units["dataset"] == "nq") & (units["experiment"] == "step1")]
    each = []
    for _, of_seed in part.groupby("seed"):
        means = of_seed.groupby("instance")[["attention_answer_95", "attention_question_95"]].mean()
        each.append(means.corr().iloc[0, 1])
    found = measures["C.attention", "step1", "nq", "pearson", "", "95"]
    assert found.estimate.value == pytest.approx(np.mean(each))
    assert found.std == pytest.approx(np.std(each, ddof=1)) and found.n == 72  # 36 of 40 instances have a noun


def test_planted_effects_are_found_and_equal_experiments_differ_by_nothing(tmp_path):
    same = {name: synthetic.EFFECTS["step1"] for name in ("checkpoint", "step1")} | {
        "step2": synthetic.EFFECTS["step2"]
    }
    paths = synthetic.make(
        tmp_path, datasets=("nq",), experiments=tuple(same), effects=same, instances=80, questions=400, tokens=120
    )
    *_, measures = analysed(paths, 500)
    rows = tables.difference_rows(measures, [("step2", "step1")]).set_index(list(tables.KEY))
    planted = rows.loc["1", "step2 - step1", "nq", "em", "", ""]
    assert planted["ci_low"] > 0 and planted["ci_low"] < 28 < planted["ci_high"] + 5
    for key in (("1", "em", "", ""), ("3", "attention", "answer", "95"), ("4", "spearman", "question", "90")):
        nothing = rows.loc[key[0], "step1 - checkpoint", "nq", *key[1:]]
        assert nothing["ci_low"] < 0 < nothing["ci_high"]
    key = ("C.attention", "step2", "nq", "pearson", "", "90")
    assert measures[key].row(key)[-2] > 0.3  # the instance's own level moves both targets


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 5))
def test_the_signal_is_counted_question_by_question(seed, instances, places):
    generator = np.random.default_rng(seed)
    mass, bears = generator.random((instances, places)), generator.random((instances, places)) < 0.4
    instance, passage = np.indices(mass.shape).reshape(2, -1)
    run = {"dataset": "nq", "experiment": "step1", "seed": 0}
    columns = {"instance": instance, "passage": passage, "mass": mass.ravel(), "answer_bearing": bears.ravel()}
    units = pd.DataFrame(columns | run)
    found = tables.signal_frame(units.sample(frac=1, random_state=1)).set_index("instance")
    mixed = [row for row in range(instances) if 0 < sum(bears[row]) < places]
    assert list(found.index) == list(range(instances))
    assert found.loc[~found.index.isin(mixed), ["picks", "picks_centred", "chance", "last_place"]].isna().all(axis=None)
    for row in mixed:
        centred = [mass[row][place] - sum(mass[:, place]) / instances for place in range(places)]
        assert found["picks"][row] == bears[row][max(range(places), key=lambda place: mass[row][place])]
        assert found["picks_centred"][row] == bears[row][max(range(places), key=lambda place: centred[place])]
        assert found["chance"][row] == pytest.approx(sum(bears[row]) / places)
        assert found["last_place"][row] == pytest.approx(mass[row][-1] / sum(mass[row]))


def test_a_distribution_within_passages_has_no_signal_between_them():
    run = {"dataset": "nq", "experiment": "perplexity", "seed": 0}
    columns = {"passage": range(3), "mass": [1, 1 + 1e-6, 1 - 1e-6], "answer_bearing": [True, False, False]}
    units = pd.DataFrame(columns | {"instance": 0} | run)
    (row,) = tables.signal_frame(units).to_dict("records")
    assert np.isnan([row["picks"], row["picks_centred"], row["last_place"]]).all() and row["chance"] == 1 / 3


def test_differences_are_of_the_means_and_paired(made):
    _, _, measures = made
    rows = tables.difference_rows(measures, [("step2", "step1"), ("no", "such")]).set_index(list(tables.KEY))
    row = rows.loc["3", "step2 - step1", "nq", "attention", "answer", "95"]
    first, second = (measures["3", name, "nq", "attention", "answer", "95"] for name in ("step2", "step1"))
    assert row["mean"] == pytest.approx(first.estimate.value - second.estimate.value)
    spread = rows.loc["3", "step2 - step1", "nq", "spearman_std", "answer", "95"]
    spearman = [measures["3", name, "nq", "spearman", "answer", "95"].std for name in ("step2", "step1")]
    assert spread["mean"] == pytest.approx(spearman[0] - spearman[1])
    rise = rows.loc["3", "atlas", "nq", "attention", "answer", "95 - 90"]
    ends = [measures["3", "atlas", "nq", "attention", "answer", p].estimate.value for p in ("95", "90")]
    assert rise["mean"] == pytest.approx(ends[0] - ends[1]) and rise["mean"] > 0
    clear = rows["p_above"] < 0.025
    assert clear.any() and (clear == (rows["ci_low"] > 0)).all()
    trained = {name for name in synthetic.EFFECTS if name != "checkpoint"}
    assert {f"{name} - checkpoint" for name in trained} <= set(rows.index.get_level_values(1))


def test_short_passages_have_no_spearman_and_are_counted(tmp_path):
    paths = synthetic.make(tmp_path, datasets=("nq",), experiments=("checkpoint", "step1"), instances=20, tokens=15)
    units, _, measures = analysed(paths, 50)
    key = ("3", "step1", "nq", "spearman", "answer", "95")
    found = measures[key]
    assert found.n == 0 and np.isnan(found.estimate.value) and np.isnan(found.row(key)[-1])
    rows = tables.unit_count_rows(units, PERCENTILES).set_index(list(tables.KEY))
    row = rows.loc["4", "step1", "nq", "spearman_undefined", "question", "95"]
    assert (row["mean"], row["n"]) == (90, 90)
    assert rows.loc["3", "step1", "nq", "few_near_tokens", "answer", "90"]["mean"] == 100  # of 15 tokens two are near
    page = typesetting.markdown(
        "table4", pages((units, None, measures), synthetic.labels())["table4"], synthetic.labels(), []
    )
    assert "undefined | " in page and "90 / 90 of 90" in page


# ------------------------------------------------------------------ layouts


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_every_table_has_a_line_for_each_method_and_dataset(made, name):
    labels = synthetic.labels(seeds=(0, 2))
    rows = pages(made, labels)[name]
    page = typesetting.markdown(name, rows, labels, ["A note."])
    lines = [line for line in page.splitlines() if line.startswith("|")]
    methods = 4 if name == "table2" else 6
    assert len(lines) == 2 + 2 * methods and len({line.count("|") for line in lines}) == 1
    assert "not run" not in page and page.endswith("- A note.\n")
    assert page == typesetting.markdown(name, rows, labels, ["A note."])


def test_missing_experiments_are_told_as_not_run(made):
    labels = synthetic.labels(seeds=(0, 2))
    rows = pages(made, labels)["table1"]
    page = typesetting.markdown("table1", rows[rows["experiment"] != "atlas"], labels, [])
    atlas = next(line for line in page.splitlines() if line.startswith("| Atlas"))
    assert atlas == "| Atlas-large Distillation | NQ | not run | not run | not run |"


def test_the_best_of_a_dataset_is_marked_as_in_the_paper():
    published = tables.read_rows(REFERENCE / "published.csv").assign(n=1000, ci_low=np.nan, ci_high=np.nan)
    labels = synthetic.labels()
    page = typesetting.markdown(
        "table2", tables.by_table(published, published[:0], labels["decoder_only"])["table2"], labels, []
    )
    step1, step2 = (
        [line.split(" | ")[2:] for line in page.splitlines() if f"({step})" in line] for step in ("Step1", "Step2")
    )
    assert [cell.strip(" |") for cell in step2[0]] == [
        "**0.049**",
        "**0.316**",
        "**0.066**",
        "**0.350**",
        "0.032",
        "0.310",
        "0.039",
        "0.225",
    ]
    assert step1[1][4:] == ["0.058", "0.349", "<ins>0.078</ins>", "<ins>0.372</ins> |"]
    assert step2[1][4:6] == ["<ins>0.060</ins>", "<ins>0.367</ins>"]


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_latex_is_whole(made, name):
    labels = synthetic.labels(seeds=(0, 2))
    labels["datasets"]["nq"] = "N_Q & {50%} #1 ~ $"
    text = typesetting.latex(name, pages(made, labels)[name], labels, ["50 % of a_b & c."])
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}") and text.count(r"\begin") == text.count(r"\end")
    width = len(re.search(r"\\begin\{tabular\}\{(l+r+)\}", text)[1])
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert rows and all(len(re.findall(r"(?<!\\)&", row)) == width - 1 for row in rows)
    assert r"50 \% of a\_b \& c." in text and r"N\_Q \& \{50\%\} \#1 \textasciitilde{} \$" in text
    assert text.isascii() or "±" not in text


def test_the_footer_tells_what_a_reader_must_know(made):
    labels = synthetic.labels(seeds=(0, 2))
    origins = {
        name: {"config_hash": name, "nouns": "world", "device": "cpu", "python": "3.11", "versions": {"torch": "2.13"}}
        for name in "ab"
    }
    text = " ".join(typesetting.footer(labels, pages(made, labels)["table3"], origins, 200))
    for words in (
        "Scale: miniature",
        "Seeds: 0, 2",
        "400 units",
        "by: world",
        "cpu",
        "torch 2.13",
        "replicates: 200",
        "t over the 2 seeds",
    ):
        assert words in text
    assert "Miniature numbers are not paper-scale numbers." in text
    assert "not paper-scale" not in " ".join(
        typesetting.footer({**labels, "scale": "paper"}, pages(made, labels)["table3"], {}, 9)
    )


# ------------------------------------------------------------------ beside the paper


def test_every_number_stands_beside_the_published_one(made):
    labels = synthetic.labels(seeds=(0, 2))
    published = tables.read_rows(REFERENCE / "published.csv")
    parts = pages(made, labels)
    measured = pd.concat([parts[name] for name in ("table1", "table3", "table4")])
    rows = tables.compare_rows(measured, published)
    assert len(rows) == (~measured["statistic"].isin(measurable.COUNTS)).sum()
    assert rows["published_mean"].notna().sum() == len(published)
    row = rows.set_index(list(tables.KEY)).loc["1", "step2", "nq", "em", "", ""]
    assert row["published_mean"] == 35.22 and row["difference"] == pytest.approx(row["mean"] - 35.22)
    page = typesetting.compare_markdown(rows, labels)
    assert "The scales differ" in page and page.count("\n| ") == len(rows) + 2


def test_published_numbers_of_what_was_not_run_are_kept(made):
    labels = synthetic.labels(datasets=("nq",))
    published = tables.read_rows(REFERENCE / "published.csv")
    measured = pages(made, labels)["table1"]
    measured = measured[(measured["dataset"] == "nq") & (measured["experiment"] != "step2")]
    rows = tables.compare_rows(measured, published)
    assert set(rows["dataset"]) == {"nq"}
    assert len(rows[(rows["experiment"] == "step2") & rows["mean"].isna()]) == 3 + 8
    assert "not run | 35.22" in typesetting.compare_markdown(rows, labels)


def test_own_data_have_no_published_numbers(made):
    own = pages(made, synthetic.labels())["table1"].query("dataset == 'nq'").assign(dataset="own")
    rows = tables.compare_rows(own, tables.read_rows(REFERENCE / "published.csv"))
    assert len(rows) == len(own) and rows["published_mean"].isna().all()


# ------------------------------------------------------------------ the published numbers


def test_published_numbers_are_the_papers():
    published = tables.read_rows(REFERENCE / "published.csv").set_index(list(tables.KEY))
    assert len(published) == 18 + 44 + 44
    assert published.loc["1", "off_the_shelf", "triviaqa", "hr_at_5", "", ""]["mean"] == 0.022
    row = published.loc["3", "perplexity", "triviaqa", "spearman", "answer", "95"]
    assert (row["mean"], row["std"]) == (0.013, 0.202)
    assert pd.read_csv(REFERENCE / "datasets.csv").set_index("dataset").loc["triviaqa", "test"] == 11313


def paper_rows(text: str, order: list[str]) -> list[tuple[str, str, list[list[float]]]]:
    """(experiment, dataset, cells as [mean, std] or [mean]) of a table's text: tab-separated, method named once."""
    lines = [
        re.sub(r"</?[bu]>", "", line).split("\t") for line in text.splitlines() if re.search(r"\t(NQ|TriviaQA)\t", line)
    ]
    rows, before = [], None
    experiments = iter(order)
    for _, title, *cells in lines:
        dataset = {"NQ": "nq", "TriviaQA": "triviaqa"}[title]
        if dataset == "nq" or before == "triviaqa":
            experiment = next(experiments, None)
        if experiment is None:
            break
        before = dataset
        rows.append((experiment, dataset, [[float(x) for x in cell.split("±")] for cell in cells if cell.strip()]))
    return rows


def test_published_numbers_stand_in_the_papers_text():
    path = shared("paper.txt")
    if path is None:
        pytest.skip("the paper's text is not here")
    published = tables.read_rows(REFERENCE / "published.csv").set_index(list(tables.KEY))
    text, seen = path.read_text(encoding="utf-8"), []

    def block(start: str, end: str) -> str:
        return text[text.index(start) : text.index(end, text.index(start))]

    def analyses(number: str, target: str):
        return [(number, s, target, p) for p in ("90", "95") for s in ("attention", "spearman")]

    scores = [("1", statistic, "", "") for statistic in ("em", "f1", "hr_at_5")]
    second = [*analyses("3", "answer"), *analyses("4", "question")]
    for start, end, order, keys in (
        ("Table 1: ", "Evaluation Metrics: ", settings.MAIN[1:4], scores),
        ("We sample 1000", "Table 2: ", settings.MAIN[:4], second),
        ("Table 3: ", "Figure 5: ", settings.MAIN, analyses("3", "answer")),
        ("Table 4: ", "Figure 6: ", settings.MAIN, analyses("4", "question")),
    ):
        for experiment, dataset, cells in paper_rows(block(start, end), list(order)):
            for (number, *key), told in zip(keys, cells, strict=True):
                row = published.loc[(number, experiment, dataset, *key)]
                assert [row["mean"], row["std"]][: len(told)] == told
                seen.append((number, experiment, dataset, *key))
    assert set(seen) == set(published.index)  # Table 2 repeats means of 3 and 4
    assert len(seen) == len(published) + 64


# ------------------------------------------------------------------ labels


def test_labels_of_a_run_keep_the_papers_experiments_and_add_controls():
    scale = settings.Scale(
        name="tiny", description="",
        corpora={"c": {"passages": "p"}}, datasets={"own": {"title": "Own", "corpus": "c"}},
        models={"reader": "r", "encoder_decoder": "e", "retriever": "t"},
        experiments={"checkpoint": {"title": "Start"}, "closed_book": {"title": "Closed book", "control": True}},
    )  # fmt: skip
    run = settings.Run(scale=scale, datasets=["own"], experiments=["checkpoint", "closed_book"], seeds=[3])
    found = labels_of(run)
    assert (
        list(found["experiments"]) == [*settings.MAIN, "closed_book"] and found["experiments"]["checkpoint"] == "Start"
    )
    assert found["datasets"] == {"own": "Own"} and found["decoder_only"] == [*settings.MAIN[:4], "closed_book"]
    assert named("checkpoint - closed_book", found["experiments"]) == "Start − Closed book"
    assert measure("attention", "answer", "95 - 90") == "answer-related attention (p95 - p90)"
