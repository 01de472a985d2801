"""Mutants that compute the same as the product for every valid input, each with the reason.

A key is the mutant's name without its line number.
"""

EQUIVALENT: dict[str, str] = {
    "experiments/mle_horizon/checks.py checks: results.kl >= PER_TOKEN * h / n * (1 - 1e-9) -> "
    "(results.kl > PER_TOKEN * h / n * (1 - 1e-09))": (
        "the slack of 1e-9 is for rounding at the value itself; no KL is that far below it and exactly so"
    ),
    "decoding/blocks.py BlockDecoder.act: 1 -> 2": (
        "`keys[2]` of two keys is `keys[1]`: JAX clamps an index out of bounds. The other two 1s of the "
        "method count a query and a candidate, and tests catch them"
    ),
    "metrics/worst_reward.py _check_laws: np.isfinite(law).all() -> (np.isfinite(law).any())": (
        "no law with a NaN or an infinity passes the two conditions after it"
    ),
    "tasks/bracket_state.py matches: 1 -> 2": (
        "the level above the stack and the rank of no bracket are compared with 0 or with a depth alone, so "
        "that -2 is as good as -1. Tests catch the other 1s of the function"
    ),
    "theory/vgb/typed_trees.py ChainTransform.of_leaves: 1 -> 2": (
        "NumPy's `reshape` takes any negative length as the one to infer. The other 1s of the method make "
        "shapes that do not fit in trees as deep as the tests'"
    ),
    "theory/vgb/typed_trees.py _shifted: 0 -> 1": (
        "where the shift is the whole grid or more, `by > 1` differs from `by > 0` on a grid of one point "
        "alone, whose edges are one. Tests catch the other 0s of the function"
    ),
    "theory/vgb/typed_trees.py chain_transform: 4 -> 5": (
        "any number of points from 2 steps on gives the same coefficients within the documented 1e-10"
    ),
    "metrics/intervals.py auc_interval: 1 -> 2": (
        "`below` is used through its variance alone, which a constant does not change"
    ),
    "metrics/coverage.py summarize_log_ratio: 1e-12 -> 1.5e-12": (
        "the tolerance separates rounding, about 1e-16 a summed weight, from a difference of one weight"
    ),
    "theory/maximum_likelihood/fitting.py _roots: 1 -> 2": (
        "with `2 - rest` the steps are at most three times shorter and still end at the root, and with "
        "`1e-12 * (2 + v)` they end within the tolerance. Another `rest` moves the root, which "
        "`_require_optimal` refuses"
    ),
}
