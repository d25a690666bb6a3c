"""Intervals: a bootstrap over seeds and instances, and normal approximations for numbers that come without data.

One resampling is drawn for a dataset and serves every experiment and statistic of it. So the difference of two
replicate vectors is a paired bootstrap of the difference, and no statistic needs a loop over replicates: each is a
formula of weighted sums, ``weights (B, N) @ columns (N, C)``.

A question's passages stay together: they are one instance, drawn or not drawn as a whole (cluster bootstrap). Seeds
are drawn first, then instances. The same questions are asked of every seed, so a drawn instance is drawn in all of
them: drawing anew within each seed would average the questions' own difficulty away and give too narrow intervals.
Row 0 of everything is the sample itself, each seed and instance once: estimate and replicates share one formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
_Z = 1.959963984540054  # standard normal quantile at (1 + LEVEL) / 2


@dataclass(frozen=True)
class Resampling:
    """How often each seed, (B + 1, S), and each instance, (B + 1, N), is in each replicate; row 0: all once."""

    seeds: np.ndarray
    instances: np.ndarray

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """Weighted sums over instances: (N, C) to (B + 1, C)."""
        blocks = np.array_split(self.instances, max(1, self.instances.size // 4_000_000))
        return np.concatenate([block.astype(np.float64) @ columns for block in blocks])


def resample(seeds: int, instances: int, replicates: int, seed: int = 0) -> Resampling:
    """Draw ``replicates`` samples of the seeds and of the instances, with replacement; equal arguments, equal draw."""
    generator = np.random.default_rng([seed, seeds, instances])

    def counts(size: int) -> np.ndarray:
        rows = np.empty((replicates + 1, size), dtype=np.uint16)
        rows[0] = 1
        for replicate in range(1, replicates + 1):
            rows[replicate] = np.bincount(generator.integers(size, size=size), minlength=size)
        return rows

    return Resampling(counts(seeds), counts(instances))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def mean_and_spread(resampling: Resampling, total: np.ndarray, squares: np.ndarray, count: np.ndarray):
    """Mean and standard deviation over units (n - 1 below), each seed's mean beside them.

    Args:
        total, squares, count: (S, N) sum, sum of squares and number of an instance's defined units.

    Returns:
        mean (B + 1,), standard deviation (B + 1,), the seeds' own means (S,) of the sample; NaN where undefined.
    """
    seeds, instances = total.shape
    sums = resampling.sums(np.concatenate([total, squares, count]).T).reshape(-1, 3, seeds)
    pooled = np.einsum("bks,bs->kb", sums, resampling.seeds.astype(np.float64))
    mean = _ratio(pooled[0], pooled[2])
    variance = _ratio(np.maximum(pooled[1] - pooled[0] * np.nan_to_num(mean), 0.0), pooled[2] - 1)
    return mean, np.sqrt(variance), _ratio(sums[0, 0], sums[0, 2])


def pearson(resampling: Resampling, x: np.ndarray, y: np.ndarray):
    """Pearson's correlation over instances within each seed, averaged over the seeds.

    Args:
        x, y: (S, N), NaN where an instance has no value; pairs with a NaN are left out.

    Returns:
        correlation (B + 1,), each seed's own (S,) of the sample; NaN where constant or under 3 pairs.
    """
    both = ~(np.isnan(x) | np.isnan(y))
    count = both.sum(axis=1, keepdims=True)

    def standard(values: np.ndarray) -> np.ndarray:
        # near zero mean and unit variance, so that sums of squares lose nothing to cancellation
        values = np.where(both, values, 0.0)
        middle = values.sum(axis=1, keepdims=True) / np.maximum(count, 1)
        values = np.where(both, values - middle, 0.0)
        spread = np.sqrt((values**2).sum(axis=1, keepdims=True) / np.maximum(count, 1))
        constant = spread <= 1e-12 * np.maximum(np.abs(middle), 1e-300)
        return np.divide(values, spread, out=np.zeros_like(values), where=~constant)

    x, y, weight = standard(x), standard(y), both.astype(np.float64)
    columns = np.stack([weight, x, y, x * x, y * y, x * y])
    sums = resampling.sums(columns.reshape(-1, columns.shape[-1]).T).reshape(-1, 6, x.shape[0])
    n, sx, sy, sxx, syy, sxy = np.moveaxis(sums, 1, 0)
    safe = np.maximum(n, 1)
    vx, vy, cov = sxx - sx * sx / safe, syy - sy * sy / safe, sxy - sx * sy / safe
    defined = (n >= 3) & (vx > 1e-9) & (vy > 1e-9)
    defined &= defined[0]  # where the sample has none, a draw of two pairs thrice must not make one up
    each = np.divide(cov, np.sqrt(np.abs(vx * vy)), out=np.full_like(cov, np.nan), where=defined)
    weights = resampling.seeds * defined
    return _ratio((np.nan_to_num(each) * weights).sum(axis=1), weights.sum(axis=1)), each[0]


def interval(replicates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of replicates 1 to B (row 0 is the estimate); NaN where fewer than half are defined."""
    drawn = replicates[1:]
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or 2 * len(drawn) < len(replicates) - 1:
        return np.nan, np.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def normal_interval(mean: float, std: float, n: float) -> tuple[float, float]:
    """Normal-approximation interval of a mean from the standard deviation of n independent observations."""
    half = _Z * std / np.sqrt(n)
    return mean - half, mean + half


def share_std(mean: float, top: float = 1.0) -> float:
    """Standard deviation of a score that is 0 or ``top``; the largest that any score within [0, top] can have.

    Exact for EM and HR@5, and for F1 an upper bound, so that its interval errs to the wide side.
    """
    return float(np.sqrt(mean * (top - mean)))


def standard_error(low: float, high: float) -> float:
    """The standard error that a symmetric 95 % interval stands for."""
    return (high - low) / (2 * _Z)


def combined(difference: float, *errors: float) -> tuple[float, float]:
    """Normal interval of a difference of independent estimates; too wide where they are paired, never too narrow
    unless they are negatively correlated."""
    half = _Z * float(np.sqrt(sum(error**2 for error in errors)))
    return difference - half, difference + half
