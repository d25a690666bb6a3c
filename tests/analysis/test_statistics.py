"""The bootstrap: against naive resampling, its coverage, and the normal approximations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.analysis import statistics


def columns(values):
    """(S, N, units) to sum, sum of squares and count, each (S, N)."""
    return np.nansum(values, -1), np.nansum(values**2, -1), (~np.isnan(values)).sum(-1).astype(float)


def test_the_first_row_is_the_sample_itself():
    values = np.random.default_rng(0).normal(size=(2, 30, 5))
    values[0, 3, 2] = np.nan
    mean, std, each = statistics.mean_and_spread(statistics.resample(2, 30, 10), *columns(values))
    assert mean[0] == pytest.approx(np.nanmean(values))
    assert std[0] == pytest.approx(np.nanstd(values, ddof=1))
    assert each == pytest.approx(np.nanmean(values, axis=(1, 2)))


def test_replicates_equal_resampling_by_hand():
    values = np.random.default_rng(1).normal(size=(3, 12, 4))
    drawn = statistics.resample(3, 12, 25, seed=5)
    mean, std, _ = statistics.mean_and_spread(drawn, *columns(values))
    for replicate in range(26):
        seeds = np.repeat(np.arange(3), drawn.seeds[replicate])
        instances = np.repeat(np.arange(12), drawn.instances[replicate])
        sample = values[np.ix_(seeds, instances)]
        assert mean[replicate] == pytest.approx(sample.mean())
        assert std[replicate] == pytest.approx(sample.std(ddof=1))


def test_draws_are_seeded_and_keep_the_sample_size():
    first, second, other = (statistics.resample(4, 50, 100, seed=seed) for seed in (1, 1, 2))
    assert (first.instances == second.instances).all() and (first.instances != other.instances).any()
    assert (first.instances.sum(axis=1) == 50).all() and (first.seeds.sum(axis=1) == 4).all()
    assert (first.instances[0] == 1).all()


def test_sums_in_blocks_are_the_same():
    drawn = statistics.resample(1, 3000, 1500)  # larger than one block
    values = np.random.default_rng(0).normal(size=(3000, 2))
    assert drawn.sums(values) == pytest.approx(drawn.instances.astype(float) @ values)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_truth_about_as_often_as_they_say(seeds):
    """Clusters of five dependent units: treating units as independent would cover far less often."""
    generator, covered, naive = np.random.default_rng(3), 0, 0
    trials = 150
    for trial in range(trials):
        level = generator.normal(size=(1, 60, 1))  # the questions' own, the same for every seed
        values = level + 0.5 * generator.normal(size=(seeds, 60, 5))
        mean, std, _ = statistics.mean_and_spread(statistics.resample(seeds, 60, 300, trial), *columns(values))
        low, high = statistics.interval(mean)
        covered += low <= 0 <= high
        low, high = statistics.normal_interval(mean[0], std[0], values.size)
        naive += low <= 0 <= high
    assert 0.88 <= covered / trials <= 0.99
    assert naive / trials < 0.8


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    generator = np.random.default_rng(4)
    level = generator.normal(size=(1, 100, 1))
    drawn = statistics.resample(1, 100, 500)
    first, second = (
        statistics.mean_and_spread(drawn, *columns(level + shift + 0.1 * generator.normal(size=(1, 100, 1))))[0]
        for shift in (0.1, 0)
    )
    low, high = statistics.interval(first - second)
    assert 0 < low < 0.1 < high + 0.05
    apart = statistics.combined(0.1, *(statistics.standard_error(*statistics.interval(x)) for x in (first, second)))
    assert apart[0] < 0 and high - low < 0.3 * (apart[1] - apart[0])


# ------------------------------------------------------------------ Pearson


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1e-3, 1.0, 1e5]), st.floats(-10, 10))
def test_pearson_equals_numpy_and_ignores_scale(seed, seeds, scale, shift):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, seeds, 20))
    x[0, 0] = np.nan
    drawn = statistics.resample(seeds, 20, 5, seed)
    r, each = statistics.pearson(drawn, x * scale + shift, y)
    expected = [np.corrcoef(x[s][~np.isnan(x[s])], y[s][~np.isnan(x[s])])[0, 1] for s in range(seeds)]
    assert each == pytest.approx(expected, abs=1e-6) and r[0] == pytest.approx(np.mean(expected), abs=1e-6)
    chosen = np.repeat(np.arange(20), drawn.instances[1])
    by_hand = []
    for s in np.repeat(np.arange(seeds), drawn.seeds[1]):
        keep = chosen[~np.isnan(x[s, chosen])]
        by_hand.append(np.corrcoef(x[s, keep], y[s, keep])[0, 1])
    assert r[1] == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_a_planted_correlation_is_found_and_a_shuffled_one_is_not():
    generator = np.random.default_rng(7)
    x = generator.normal(size=(2, 200))
    y = 0.6 * x + 0.8 * generator.normal(size=(2, 200))
    drawn = statistics.resample(2, 200, 500)
    low, high = statistics.interval(statistics.pearson(drawn, x, y)[0])
    assert low < 0.6 < high and low > 0.4
    low, high = statistics.interval(statistics.pearson(drawn, x, generator.permuted(y, axis=1))[0])
    assert low < 0 < high


@pytest.mark.parametrize("x", [np.ones((1, 5)), np.array([[1.0, 2, np.nan, np.nan, np.nan]]), np.full((1, 5), 0.1)])
def test_pearson_of_a_constant_or_of_two_is_undefined(x):
    r, _ = statistics.pearson(statistics.resample(1, 5, 20), x, np.arange(5.0)[None])
    assert np.isnan(r).all() and np.isnan(statistics.interval(r)).all()


# ------------------------------------------------------------------ undefined, and approximations


def test_nothing_defined_gives_no_mean_and_no_interval():
    empty = np.zeros((1, 4))
    mean, std, each = statistics.mean_and_spread(statistics.resample(1, 4, 20), empty, empty, empty)
    assert np.isnan(mean).all() and np.isnan(std).all() and np.isnan(each).all()
    assert np.isnan(statistics.interval(mean)).all()


def test_normal_intervals():
    low, high = statistics.normal_interval(0.3, 0.5, 100)
    assert (low, high) == pytest.approx((0.3 - 0.098, 0.3 + 0.098), abs=1e-4)
    assert statistics.standard_error(low, high) == pytest.approx(0.05)
    assert statistics.combined(1.0, 3.0, 4.0) == pytest.approx((1 - 9.8, 1 + 9.8), abs=1e-3)


def test_a_share_has_the_variance_of_a_coin():
    outcomes = np.r_[np.ones(27), np.zeros(73)]
    assert statistics.share_std(0.27) == pytest.approx(outcomes.std())
    assert statistics.share_std(27, 100) == pytest.approx(100 * outcomes.std())
