"""Intervals: the bootstrap against naive resampling, their coverage with effects of the seed, p-values, corrections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attention_distillation.analysis import statistics


def columns(values):
    """(S, N, units) to sum, sum of squares and count, each (S, N)."""
    return np.nansum(values, -1), np.nansum(values**2, -1), (~np.isnan(values)).sum(-1).astype(float)


def test_the_first_row_is_the_sample_itself():
    values = np.random.default_rng(0).normal(size=(2, 30, 5))
    values[0, 3, 2] = np.nan
    mean, std = statistics.mean_and_spread(statistics.resample(30, 10), *columns(values))
    assert mean.value == pytest.approx(np.nanmean(values)) and std.value == pytest.approx(np.nanstd(values, ddof=1))
    assert mean.each[0] == pytest.approx(np.nanmean(values, axis=(1, 2)))
    assert std.each[0] == pytest.approx(np.nanstd(values, axis=(1, 2), ddof=1))
    assert mean.over_seeds == pytest.approx(np.nanmean(values, axis=(1, 2)).std(ddof=1))


def test_replicates_equal_resampling_by_hand():
    values = np.random.default_rng(1).normal(size=(3, 12, 4))
    drawn = statistics.resample(12, 25, seed=5)
    mean, std = statistics.mean_and_spread(drawn, *columns(values))
    for replicate in range(26):
        sample = values[:, np.repeat(np.arange(12), drawn.instances[replicate])]
        assert mean.pooled[replicate] == pytest.approx(sample.mean())
        assert std.pooled[replicate] == pytest.approx(sample.std(ddof=1))
        assert mean.each[replicate] == pytest.approx(sample.mean(axis=(1, 2)))
        assert std.each[replicate] == pytest.approx(sample.reshape(3, -1).std(axis=1, ddof=1))


def test_draws_are_seeded_and_keep_the_sample_size():
    first, second, other = (statistics.resample(50, 100, seed=seed).instances for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any()
    assert (first.sum(axis=1) == 50).all() and (first[0] == 1).all()


def test_sums_in_blocks_are_the_same():
    drawn = statistics.resample(3000, 1500)  # larger than one block
    values = np.random.default_rng(0).normal(size=(3000, 2))
    assert drawn.sums(values) == pytest.approx(drawn.instances.astype(float) @ values)


# ------------------------------------------------------------------ intervals


def estimate(scores: np.ndarray, drawn: statistics.Resampling) -> statistics.Estimate:
    return statistics.mean_and_spread(drawn, *columns(scores[..., None]))[0]


class World:
    """Scores of S seeds on the same N questions: an effect of the seed, one of the question, and chance.

    As probits of a score of 0 or 1, or as the score itself. Standard deviations over seeds in docs/measurements:
    HR@5 0.004 to 0.14 around 0.4 to 0.6, EM 1 to 14 of 100 where every run learned to read.
    """

    def __init__(self, binary: bool, middle: float, seed: float, question: float, size: int = 200):
        self.binary, self.middle, self.seed, self.question, self.size = binary, middle, seed, question, size

    def questions(self, generator: np.random.Generator) -> np.ndarray:
        return self.question * generator.normal(size=(1, self.size))

    def scores(self, generator: np.random.Generator, questions: np.ndarray, seeds: int) -> np.ndarray:
        latent = self.middle + questions + self.seed * generator.normal(size=(seeds, 1))
        latent = latent + generator.normal(size=(seeds, self.size))
        return (latent > 0).astype(float) if self.binary else latent

    @property
    def truth(self) -> float:
        """The mean over all seeds and questions that could be drawn."""
        spread = np.sqrt(1 + self.seed**2 + self.question**2)
        return stats.norm.cdf(self.middle / spread) if self.binary else self.middle


WORLDS = {
    "one reader, no effect of the seed": World(True, 0.0, 0.0, 1.0),
    "HR@5, small effect": World(True, 0.0, 0.05, 1.0),
    "HR@5, ruined in part": World(True, -0.3, 0.3, 1.0),
    "EM, large effect": World(True, 0.0, 0.5, 0.5),
    "EM, few right": World(True, -1.5, 0.1, 1.0),
    "attention, no effect of the question": World(False, 0.0, 0.1, 0.0),
    "attention, both": World(False, 0.0, 0.3, 2.0),
}
TRIALS = 600


def coverage(world: World, seeds: int, paired: bool, draw: int = 0) -> float:
    """How often the interval of a mean, or of a paired difference of two equal experiments, holds the truth."""
    generator, covered = np.random.default_rng([seeds, paired, draw]), 0
    drawn = statistics.resample(world.size, 200, draw)
    for _ in range(TRIALS):
        questions = world.questions(generator)
        found = estimate(world.scores(generator, questions, seeds), drawn)
        if paired:
            found = found - estimate(world.scores(generator, questions, seeds), drawn)
        low, high = statistics.interval(found)
        covered += low <= (0.0 if paired else world.truth) <= high
    return covered / TRIALS


@pytest.mark.parametrize("paired", [False, True], ids=["mean", "difference"])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_intervals_over_seeds_cover(world, seeds, paired):
    assert 0.93 <= coverage(world, seeds, paired) <= 0.995


def test_from_one_seed_an_interval_covers_the_questions_and_not_another_run():
    still, moved = World(True, 0.0, 0.0, 1.0), World(True, 0.0, 0.3, 1.0)
    assert coverage(still, 1, False) >= 0.92
    assert coverage(moved, 1, False) < 0.85 and coverage(moved, 1, True) < 0.85


def test_a_bootstrap_of_three_seeds_would_not_cover():
    """Why Student's t: the same trials, seeds drawn with replacement."""
    world, generator, covered = WORLDS["EM, large effect"], np.random.default_rng(0), 0
    drawn = statistics.resample(world.size, 200)
    for _ in range(200):
        each = estimate(world.scores(generator, world.questions(generator), 3), drawn).each[1:]
        both = np.take_along_axis(each, generator.integers(3, size=each.shape), axis=1).mean(axis=1)
        low, high = np.quantile(both, [0.025, 0.975])
        covered += low <= world.truth <= high
    assert covered / 200 < 0.88


def test_passages_of_a_question_are_no_independent_observations():
    generator, covered = np.random.default_rng(3), np.zeros(2)
    for trial in range(200):
        values = generator.normal(size=(1, 60, 1)) + 0.5 * generator.normal(size=(1, 60, 5))
        mean, std = statistics.mean_and_spread(statistics.resample(60, 200, trial), *columns(values))
        naive = statistics.normal_interval(mean.value, std.value, values.size)
        covered += [low <= 0 <= high for low, high in (statistics.interval(mean), naive)]
    assert covered[0] / 200 >= 0.9 and covered[1] / 200 < 0.8


def test_without_chance_between_seeds_the_interval_is_the_bootstrap_s():
    """An untrained model answers alike in every seed: as many seeds as one likes tell no more than one."""
    scores = np.random.default_rng(0).random((1, 80))
    drawn = statistics.resample(80, 400)
    one, five = (statistics.interval(estimate(np.repeat(scores, seeds, axis=0), drawn)) for seeds in (1, 5))
    assert five == pytest.approx(one)


def test_without_an_effect_of_questions_the_interval_is_student_s():
    values = np.repeat(np.array([[0.1], [0.4], [0.7], [0.6]]), 50, axis=1)
    found = statistics.interval(estimate(values, statistics.resample(50, 100)))
    assert found == pytest.approx(stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95))


def test_an_interval_stays_within_what_the_statistic_can_be():
    values = np.repeat(np.array([[0.0], [0.9], [0.1]]), 50, axis=1)
    found = estimate(values, statistics.resample(50, 100))
    assert statistics.interval(found)[0] < 0 and statistics.interval(found)[1] > 1
    assert statistics.interval(found, (0.0, 1.0)) == (0.0, 1.0)


def test_a_seed_without_values_is_left_out():
    values = np.random.default_rng(0).random((3, 50))
    values[1] = np.nan
    drawn = statistics.resample(50, 100)
    with_gap, without = (statistics.interval(estimate(part, drawn)) for part in (values, values[[0, 2]]))
    assert with_gap == pytest.approx(without)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    generator = np.random.default_rng(4)
    level = generator.normal(size=(1, 100))
    drawn = statistics.resample(100, 500)
    first, second = (estimate(level + shift + 0.1 * generator.normal(size=(1, 100)), drawn) for shift in (0.1, 0))
    low, high = statistics.interval(first - second)
    assert 0 < low < 0.1 < high + 0.05
    apart = statistics.combined(0.1, *(statistics.standard_error(*statistics.interval(x)) for x in (first, second)))
    assert apart[0] < 0 and high - low < 0.3 * (apart[1] - apart[0])


def test_what_is_told_of_intervals():
    assert "the spread between seeds is not in them" in statistics.intervals_note(1)
    assert "t over the 3 seeds" in statistics.intervals_note(3)


# ------------------------------------------------------------------ p-values


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(-1.5, 1.5))
def test_a_p_value_is_the_level_at_which_the_interval_reaches_0(seed, seeds, shift):
    generator = np.random.default_rng(seed)
    found = estimate(shift + 3 * generator.normal(size=(seeds, 40)), statistics.resample(40, 400, seed))
    above, (low, high) = statistics.p_above(found), statistics.interval(found)
    assert (above < 0.025) == (low > 0) and (above > 0.975) == (high < 0)
    if 0.01 < above < 0.48 or 0.52 < above < 0.99:  # nearer to a half, the median itself may be on the other side
        end = statistics.interval(found, level=abs(1 - 2 * above))[0 if found.value > 0 else 1]
        assert end == pytest.approx(0, abs=1e-6)


def test_a_p_value_of_seeds_alone_is_student_s():
    values = np.repeat(np.array([[0.1], [0.4], [0.7], [0.6]]), 50, axis=1)
    found = statistics.p_above(estimate(values, statistics.resample(50, 2000)))
    assert found == pytest.approx(stats.ttest_1samp(values[:, 0], 0, alternative="greater").pvalue)


def test_no_bootstrap_gives_a_p_value_below_half_a_replicate():
    values = 5 + np.random.default_rng(0).random((1, 30))
    assert statistics.p_above(estimate(values, statistics.resample(30, 99))) == pytest.approx(0.005)
    assert statistics.p_above(estimate(-values, statistics.resample(30, 99))) == pytest.approx(0.995)


def test_many_comparisons_are_corrected_for_as_far_as_few_of_them_are_enough():
    p = [0.04, 0.002, np.nan, 0.01]
    assert statistics.p_of_many(p, 1) == pytest.approx(4 * 0.002)  # Bonferroni
    assert statistics.p_of_many(p, 2) == pytest.approx(3 * 0.01)
    assert statistics.p_of_many(p, 3) == pytest.approx(2 * 0.04)
    assert statistics.p_of_many(p, 4) == 1.0  # one of all that are needed could not be made
    assert statistics.p_of_many([0.4] * 5, 1) == 1.0


@pytest.mark.parametrize("needed", [1, 3, 5])
def test_a_claim_of_many_comparisons_is_borne_out_by_chance_no_oftener_than_said(needed):
    """Of 5 comparisons as many truly hold as falls one short of what the claim needs; their p-values are dependent."""
    generator = np.random.default_rng(needed)
    common = generator.normal(size=(20_000, 1))
    noise = (common + generator.normal(size=(20_000, 5))) / np.sqrt(2)
    noise[:, : needed - 1] += 4
    p = stats.norm.sf(noise)
    borne_out = np.mean([statistics.p_of_many(row, needed) < 0.025 for row in p])
    uncorrected = np.mean((p < 0.025).sum(axis=1) >= needed)
    assert borne_out <= 0.027 and (needed == 5 or uncorrected > 0.04)


# ------------------------------------------------------------------ Pearson


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1e-3, 1.0, 1e5]), st.floats(-10, 10))
def test_pearson_equals_numpy_and_ignores_scale(seed, seeds, scale, shift):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, seeds, 20))
    x[0, 0] = np.nan
    drawn = statistics.resample(20, 5, seed)
    r = statistics.pearson(drawn, x * scale + shift, y)
    expected = [np.corrcoef(x[s][~np.isnan(x[s])], y[s][~np.isnan(x[s])])[0, 1] for s in range(seeds)]
    assert r.each[0] == pytest.approx(expected, abs=1e-6) and r.value == pytest.approx(np.mean(expected), abs=1e-6)
    chosen = np.repeat(np.arange(20), drawn.instances[1])
    by_hand = []
    for s in range(seeds):
        keep = chosen[~np.isnan(x[s, chosen])]
        by_hand.append(np.corrcoef(x[s, keep], y[s, keep])[0, 1])
    assert r.each[1] == pytest.approx(by_hand, abs=1e-6) and r.pooled[1] == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_a_planted_correlation_is_found_and_a_shuffled_one_is_not():
    generator = np.random.default_rng(7)
    x = generator.normal(size=(4, 200))
    y = 0.6 * x + 0.8 * generator.normal(size=(4, 200))
    drawn = statistics.resample(200, 500)
    low, high = statistics.interval(statistics.pearson(drawn, x, y))
    assert low < 0.6 < high and low > 0.4
    low, high = statistics.interval(statistics.pearson(drawn, x, generator.permuted(y, axis=1)))
    assert low < 0 < high


@pytest.mark.parametrize("x", [np.ones((1, 5)), np.array([[1.0, 2, np.nan, np.nan, np.nan]]), np.full((1, 5), 0.1)])
def test_pearson_of_a_constant_or_of_two_is_undefined(x):
    r = statistics.pearson(statistics.resample(5, 20), x, np.arange(5.0)[None])
    assert np.isnan(r.pooled).all() and np.isnan(statistics.interval(r)).all() and np.isnan(statistics.p_above(r))


# ------------------------------------------------------------------ undefined, and approximations


def test_nothing_defined_gives_no_mean_and_no_interval():
    empty = np.zeros((1, 4))
    for found in statistics.mean_and_spread(statistics.resample(4, 20), empty, empty, empty):
        assert np.isnan(found.pooled).all() and np.isnan(found.each).all() and np.isnan(found.over_seeds)
        assert np.isnan(statistics.interval(found)).all() and np.isnan(statistics.p_above(found))


def test_normal_intervals():
    low, high = statistics.normal_interval(0.3, 0.5, 100)
    assert (low, high) == pytest.approx((0.3 - 0.098, 0.3 + 0.098), abs=1e-4)
    assert statistics.standard_error(low, high) == pytest.approx(0.05)
    assert statistics.combined(1.0, 3.0, 4.0) == pytest.approx((1 - 9.8, 1 + 9.8), abs=1e-3)


def test_a_share_has_the_variance_of_a_coin():
    outcomes = np.r_[np.ones(27), np.zeros(73)]
    assert statistics.share_std(0.27) == pytest.approx(outcomes.std())
    assert statistics.share_std(27, 100) == pytest.approx(100 * outcomes.std())
