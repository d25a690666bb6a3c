"""Figures: drawn from whatever there is, the same bytes twice, one look an experiment."""

from __future__ import annotations

import pandas as pd
import pytest
import synthetic
from matplotlib import colors
from matplotlib import pyplot as plt
from test_tables import PERCENTILES, analysed

from attention_distillation.files import InputError
from attention_distillation.reporting import figures, tables

NAMES = [f"figure{number}.{kind}" for number in (1, 3, 4, 5, 6, 7) for kind in ("pdf", "png")]


def drawn(tmp_path, labels, **choices):
    paths = synthetic.make(tmp_path / "results", instances=15, questions=40, **choices)
    units, _, measures = analysed(paths, 20)
    logs = figures.read_logs(paths.get("log.jsonl", []))
    counts = tables.unit_count_rows(units, PERCENTILES)
    return units, logs, pd.concat([tables.as_rows(measures), counts], ignore_index=True), labels


def test_all_figures_are_drawn_and_equal_input_gives_equal_bytes(tmp_path):
    material = drawn(tmp_path, synthetic.labels(seeds=(0, 1)), seeds=(0, 1))
    for folder in ("a", "b"):
        figures.draw_all(*material, tmp_path / folder)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(NAMES)
    for name in NAMES:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert b"CreationDate" not in data and b"Matplotlib" not in data


@pytest.mark.parametrize(
    "choices",
    [
        {"datasets": ("own",), "experiments": ("checkpoint",)},
        {"datasets": ("nq", "triviaqa", "third"), "experiments": ("step2", "atlas")},
        {"datasets": ("nq",), "tokens": 12},  # no Spearman value at all
    ],
)
def test_figures_are_drawn_from_what_is_there(tmp_path, choices):
    figures.draw_all(*drawn(tmp_path, synthetic.labels(choices["datasets"]), **choices), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)


def texts(figure) -> str:
    panels = [axes.get_title(loc="left") for axes in figure.axes]
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " ".join([figure.get_suptitle(), *(text.get_text() for text in figure.texts), *panels, *inside])


def test_a_figure_says_what_it_is_of(tmp_path):
    units, logs, rows, labels = drawn(tmp_path, synthetic.labels(seeds=(0, 1)), seeds=(0, 1))
    told = texts(figures.histograms("figure5", units, rows, labels))
    for words in ("Figure 5", "TriviaQA", "answer-related", "15 instances", "2 seeds", "miniature", "95th percentile"):
        assert words in told
    assert "2 seeds" in texts(figures.training_curves(logs, labels)) and "80 (questions" in texts(
        figures.rivals(rows, labels)
    )
    plt.close("all")


def test_absence_is_told_in_the_picture(tmp_path):
    units, logs, rows, labels = drawn(
        tmp_path, synthetic.labels(("nq",)), datasets=("nq",), experiments=("checkpoint", "step1"), tokens=12
    )
    assert "only one dataset was run" in texts(figures.histograms("figure7", units, rows, labels))
    assert "undefined in every unit" in texts(figures.histograms("figure3", units, rows, labels))
    assert "neither experiment was run" in texts(figures.training_curves(logs, labels))
    assert "not run, or undefined" in texts(figures.rivals(rows, labels))
    plt.close("all")


def test_a_figure_says_what_is_not_measurable(tmp_path):
    mute = synthetic.EFFECTS | {"atlas": synthetic.Effect(3.0, 1.0, 0.0, 0.9)}
    for tokens, words in ((60, "under 8 near tokens in most units (answer-related p95: 6 of 6 rows)"), (200, None)):
        units, _, rows, labels = drawn(
            tmp_path / str(tokens), synthetic.labels(("nq",)), datasets=("nq",), effects=mute, tokens=tokens
        )
        for figure in (figures.histograms("figure3", units, rows, labels), figures.rivals(rows, labels)):
            said = texts(figure).replace("2 of 2 rows", "6 of 6 rows")  # Figure 4 is of two experiments
            assert words in said if words else "not measurable" not in said
            assert "Answering next to nothing (EM under 1): Atlas-large Distillation." in said
    plt.close("all")


def test_histogram_shares_sum_to_one(tmp_path):
    units, _, rows, labels = drawn(tmp_path, synthetic.labels(("nq",)), datasets=("nq",))
    figure = figures.histograms("figure3", units, rows, labels)
    for axes in figure.axes[2:]:
        assert len(axes.patches) == 6
        for patch in axes.patches:
            assert patch.get_data().values.sum() == pytest.approx(1)
    plt.close("all")


def test_figure_1_starts_at_the_initial_retriever_and_shades_the_seeds(tmp_path):
    _, logs, _, labels = drawn(tmp_path, synthetic.labels(("nq",), (0, 1)), datasets=("nq",), seeds=(0, 1))
    (axes,) = figures.training_curves(logs, labels).axes
    curves = {line.get_label().split(" (")[0]: line for line in axes.lines[:2]}
    assert set(curves) == {"fine-tuned reader", "off-the-shelf reader"}
    assert curves["fine-tuned reader"].get_ydata()[0] == pytest.approx(synthetic.EFFECTS["checkpoint"].hit)
    assert axes.lines[2].get_ydata()[0] == pytest.approx(synthetic.EFFECTS["checkpoint"].hit)
    assert len(axes.collections) == 2
    plt.close("all")


def test_looks_are_stable_and_differ():
    labels = synthetic.labels()
    labels["experiments"] |= {"closed_book": "Closed book", "random_retriever": "Random retriever"}
    looks = {name: figures.look(name, labels) for name in labels["experiments"]}
    assert len({(look["color"], str(look["linestyle"])) for look in looks.values()}) == 8
    assert (
        looks["atlas"]["color"] == "#e69f00" and looks["step2"]["color"] == "#0072b2"
    )  # yellow and blue, as in the paper
    assert all(colors.is_color_like(look["color"]) for look in looks.values())


def test_a_faulty_log_is_told(tmp_path):
    path = tmp_path / "nq/step2/seed0/log.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 0, "hr_at_5": 0.5}\n{"step": 1}\n')
    with pytest.raises(InputError, match="line 2: 'step' or 'hr_at_5' is missing"):
        figures.read_logs([path])


def test_rows_between_two_validations_are_passed_over(tmp_path):
    path = tmp_path / "nq/step2/seed0/log.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 0, "hr_at_5": 0.5}\n{"step": 1, "hr_at_5": null}\n{"step": 2, "hr_at_5": 0.25}\n')
    assert figures.read_logs([path])[["step", "hr_at_5"]].values.tolist() == [[0, 0.5], [2, 0.25]]
