import numpy as np
import pytest

from metrics import isotonic_r2


def by_min_max(x: np.ndarray, y: np.ndarray) -> float:
    """Plain Python: f at the i-th distinct x is the maximum over starts a <= i of the minimum over ends
    b >= i of the mean of y over the a-th to the b-th distinct x."""
    places = sorted(set(x.tolist()))
    rows = [[b for a, b in zip(x, y, strict=True) if a == place] for place in places]

    def mean(a: int, b: int) -> float:
        inside = [value for row in rows[a : b + 1] for value in row]
        return sum(inside) / len(inside)

    fit = [max(min(mean(a, b) for b in range(i, len(rows))) for a in range(i + 1)) for i in range(len(rows))]
    left = sum((value - fit[i]) ** 2 for i, row in enumerate(rows) for value in row)
    return 1 - left / sum((value - sum(y) / len(y)) ** 2 for value in y)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_least_squares_fit_also_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, 12).astype(float)
    y = 0.2 * x + rng.normal(size=12)
    assert isotonic_r2(x, y) == pytest.approx(by_min_max(x, y), abs=1e-12)
    assert isotonic_r2(x, y, increasing=False) == pytest.approx(by_min_max(-x, y), abs=1e-12)


def test_by_hand() -> None:
    # The last two are pooled at 2.5: the squares of .5 and .5 are left of 5.
    assert isotonic_r2(np.arange(4.0), np.array([0.0, 1.0, 3.0, 2.0])) == pytest.approx(1 - 0.5 / 5)


def test_any_monotone_function_is_explained_and_an_opposed_one_is_not() -> None:
    x = np.linspace(-2, 3, 9)
    for monotone in (np.exp(x), x**3, np.sign(x)):
        assert isotonic_r2(x, monotone) == 1
        assert isotonic_r2(x, -monotone, increasing=False) == 1
        assert isotonic_r2(x, -monotone) == pytest.approx(0, abs=1e-15)
    assert np.isnan(isotonic_r2(x, np.full(9, 0.3)))


@pytest.mark.parametrize(
    ("x", "y"),
    [([1, 2], [1, 2, 3]), ([1], [1]), ([[1, 2]], [[1, 2]]), ([1, np.nan], [1, 2]), ([1, 2], [1, np.inf])],
)
def test_bad_input_is_refused(x: list, y: list) -> None:
    with pytest.raises(ValueError, match="predictor, outcome: "):
        isotonic_r2(np.array(x, float), np.array(y, float))
