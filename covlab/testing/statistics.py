"""Goodness of fit."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
from scipy import stats


def chi_square_p(observed: Iterable[Hashable], law: Mapping[Hashable, float]) -> float:
    """p-value of Pearson's test that `observed` are independent draws from `law`; 0 outside its support."""
    counts = dict.fromkeys((outcome for outcome, probability in law.items() if probability > 0), 0)
    for outcome in observed:
        if outcome not in counts:
            return 0.0
        counts[outcome] += 1
    expected = np.array([law[outcome] for outcome in counts], np.float64) * sum(counts.values())
    assert abs(sum(law.values()) - 1) < 1e-9, "the law itself does not sum to 1"
    assert expected.min() >= 5, f"{expected.min():.3g} expected draws in a cell are too few for the test"
    return float(stats.chisquare(np.array(list(counts.values()), np.float64), expected).pvalue)


def uniform_p(values: np.ndarray, bins: int = 20) -> float:
    """p-value of the chi-square test that `values` are uniform on [0, 1)."""
    cells = np.minimum((np.asarray(values) * bins).astype(int), bins - 1)
    return chi_square_p(cells.tolist(), dict.fromkeys(range(bins), 1 / bins))
