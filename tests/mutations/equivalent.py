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
    "theory/maximum_likelihood/fitting.py fit_logistic_on_ball: trials > 0 -> (trials >= 0)": (
        "coordinates without trials are then a kind of their own with m = 0, which also has u = 0 and counts "
        "for no draw; kind 0 has the same values and exists to save time"
    ),
    "theory/maximum_likelihood/fitting.py fit_categorical_in_box: np.sum(np.clip(z * share, low, high), "
    "axis=1) < z[:, 0] -> (np.sum(np.clip(z * share, low, high), axis=1) <= z[:, 0])": (
        "where both sides are equal the knot itself is the zero, which the linear pieces on both sides of it "
        "have in common"
    ),
    "theory/maximum_likelihood/fitting.py best_of_class: 0.0 -> 0.5": (
        "the number in place of ln 0 is multiplied by a count of 0, or the model has missed an outcome, and "
        "its sum is replaced"
    ),
    "theory/maximum_likelihood/fitting.py _roots: 2 * k >= m -> (2 * k > m)": (
        "for 2 k = m the root is 0, whose sign does not matter"
    ),
    "theory/maximum_likelihood/fitting.py _roots: start * sign -> (start / sign)": "the sign is 1 or -1",
    "theory/maximum_likelihood/fitting.py _roots: 0.0 -> 0.5": (
        "from 0.5 instead of a lower start, Newton's method on the concave increasing function ends at the "
        "same root. Tests catch the other 0.0, which bounds the iterates"
    ),
    "theory/maximum_likelihood/fitting.py _roots: 1e-12 -> 1.5e-12": (
        "Newton's method is quadratic: a step of 1e-12 leaves an error far below `KKT_TOLERANCE`"
    ),
    "theory/maximum_likelihood/fitting.py _roots: 1e-12 * (1 + v) -> (1e-12 / (1 + v))": (
        "a smaller tolerance; the iteration ends later, at the same root"
    ),
    "theory/maximum_likelihood/fitting.py _roots: np.abs(new - v) <= 1e-12 * (1 + v) -> "
    "(np.abs(new - v) < 1e-12 * (1 + v))": (
        "a step of exactly the tolerance is followed by one more, of which the same holds as of 1.5e-12"
    ),
    "theory/maximum_likelihood/fitting.py _on_sphere: 16 -> 17": (
        "the point at which a bracket from 0 is divided; any other in the bracket leads to the same root"
    ),
    "theory/maximum_likelihood/random_trees.py RandomTrees.sample_classes: 1 -> 2": (
        "NumPy's `reshape` takes any negative length as the one to infer. Tests catch the other 1s"
    ),
    "theory/maximum_likelihood/rate_classes.py FineRate.hull_weight: 40 -> 41": (
        "after 40 halvings the weight is known within the documented 1e-12"
    ),
    "theory/maximum_likelihood/rate_classes.py FineRate.hull_weight: slope(middle) > 0 -> "
    "(slope(middle) >= 0)": (
        "where the slope is 0 the middle is the maximum, and both halves have it as an end"
    ),
    "theory/maximum_likelihood/rate_instances.py HeavyTail.sample: trials > 0 -> (trials >= 0)": (
        "NumPy's binomial of no trials is 0 and draws nothing; the mask saves time"
    ),
    "theory/sgd/horizon_runs.py begin: 1.0 -> 1.5": (
        "the state before the first update depends on neither the step size nor ln N"
    ),
    "metrics/evaluators.py HeldOut.flat: 1 -> 2": (
        "NumPy's `reshape` takes any negative length as the one to infer"
    ),
    "training/coverage_objectives.py log_miss: 1.0 -> 1.5": (
        "-1 and -1.5 stand in for ln p in the branch that is not taken; value and gradient there are finite"
    ),
    "training/coverage_objectives.py log_miss: log_p > -math.log(2) -> (log_p >= -math.log(2))": (
        "at p = 1/2 both branches compute ln(1/2) from numbers without cancellation"
    ),
    "training/coverage_objectives.py log_pass: 1.0 -> 1.5": (
        "a bound above 0.7, beyond which the branch is not taken"
    ),
    "training/coverage_objectives.py log_pass: a < 0.7 -> (a <= 0.7)": (
        "at a = 0.7 neither branch cancels, and both give ln(1 - e^-0.7) to the last digits"
    ),
    "training/coverage_objectives.py log_pass: log_p < _TINY -> (log_p <= _TINY)": (
        "at `_TINY` both branches agree to the last digit of float64"
    ),
    "training/coverage_objectives.py dco_factor: log_p < _TINY -> (log_p <= _TINY)": (
        "at `_TINY` both branches agree to the last digit of float64"
    ),
    "models/gradients.py _lookup_backward: platform() == \"cpu\" -> (platform() != 'cpu')": (
        "a scatter and a product with one-hot rows add up the same rows; the platform decides which is "
        "quicker"
    ),
    "models/gradients.py _linear_backward: kernel.shape[0] > kernel.shape[1] -> (kernel.shape[0] >= "
    "kernel.shape[1])": ("both branches compute the same gradients; the longer axis is put last for speed"),
    "models/gradients.py _linear_backward: 0 -> 1": (
        "both branches compute the same gradients; the longer axis is put last for speed"
    ),
    'models/gradients.py _kept_apart: jax.lax.optimization_barrier(product) if platform() == "cpu" '
    "else product -> (product)": ("the barrier returns its argument; it changes the program's speed alone"),
    "models/gradients.py _kept_apart: platform() == \"cpu\" -> (platform() != 'cpu')": (
        "the barrier returns its argument; it changes the program's speed alone"
    ),
    "models/cache.py attend_causally: length <= CAUSAL_BLOCK -> (length < CAUSAL_BLOCK)": (
        "blocks of queries give what one product gives; they change speed alone"
    ),
    'models/cache.py attend_causally: length <= CAUSAL_BLOCK or platform() != "cpu" -> (length <= '
    "CAUSAL_BLOCK and platform() != 'cpu')": (
        "blocks of queries give what one product gives; they change speed alone"
    ),
    "models/cache.py attend_causally: platform() != \"cpu\" -> (platform() == 'cpu')": (
        "blocks of queries give what one product gives; they change speed alone"
    ),
    "models/delta_rule.py _transpose: jax.lax.optimization_barrier(transposed) if "
    'jax.default_backend() == "cpu" else transposed -> (transposed)': (
        "the barrier returns its argument; it changes the program's speed alone"
    ),
    "models/delta_rule.py _transpose: jax.default_backend() == \"cpu\" -> (jax.default_backend() != 'cpu')": (
        "the barrier returns its argument; it changes the program's speed alone"
    ),
    "models/gpt.py Transformer.__init__: 3 -> 4": (
        "more keys are split than are taken; with JAX's partitionable keys, which `pin_settings` "
        "requires, the first ones do not depend on their number"
    ),
    "models/gpt.py Transformer.__init__: 4 -> 5": ("more keys are split than are taken, as above"),
    "models/recursive.py RecursiveTransformer.__init__: 4 -> 5": (
        "more keys are split than are taken, as above"
    ),
    "models/recursive.py RecursiveTransformer.__init__: 2 -> 3": (
        "more keys are split than are taken, as above"
    ),
    "models/multi_token.py MultiTokenTransformer.__init__: 4 -> 5": (
        "more keys are split than are taken, as above"
    ),
    "models/contract.py _measure: apart(head[:, 1:], head[:, :1]) -> (apart(head[:, :1], head[:, 1:]))": (
        "`apart` is symmetric"
    ),
    "models/contract.py _measure: apart(given[:, 1:], given[:, :1]) -> (apart(given[:, :1], given[:, 1:]))": (
        "`apart` is symmetric"
    ),
    "models/contract.py _measure: apart(logits[:, 1:], logits[:, :1]) -> (apart(logits[:, :1], "
    "logits[:, 1:]))": ("`apart` is symmetric"),
    "models/contract.py _measure: apart(logits_alone[:, 1:], logits_alone[:, :1]) -> "
    "(apart(logits_alone[:, :1], logits_alone[:, 1:]))": ("`apart` is symmetric"),
    "models/contract.py _measure: apart(logits_alone[:, 0], own) -> (apart(own, logits_alone[:, 0]))": (
        "`apart` is symmetric"
    ),
    "models/contract.py _measure: apart(stepped, own) -> (apart(own, stepped))": ("`apart` is symmetric"),
    "models/contract.py _measure: apart(back, logits[:, 1 + change]) -> (apart(logits[:, 1 + "
    "change], back))": ("`apart` is symmetric"),
    "models/gpt.py GPT._teacher_forced: False -> True": (
        "the last block's outputs at the prompt's tokens are computed, and not read"
    ),
    "models/gpt.py GPT.start: False -> True": (
        "the last block's outputs at the prompt's tokens are computed, and not read"
    ),
    "models/gradients.py _attend_backward: "
    '_kept_apart(jnp.einsum(f"bhnqd,bhnqk->{memory.axes[:-2]}dk", rows, scores)).swapaxes(-1, -2) '
    "-> (_kept_apart(jnp.einsum(f'bhnqd,bhnqk->{memory.axes[:-2]}dk', rows, scores)).swapaxes(-2, "
    "-1))": ("swapping two axes is symmetric in them"),
    "models/recurrent.py orthogonal.project: 2 -> 3": (
        "a third projection changes no digit that the second has left"
    ),
    "metrics/alarms.py thresholds: below >= (1 - rate) * below[:, -1:] * (1 - 1e-12) -> "
    "(below > (1 - rate) * below[:, -1:] * (1 - 1e-12))": (
        "the tolerance keeps the two sides apart, except in a row without weight, which gets +inf"
    ),
    "metrics/alarms.py thresholds: 1e-12 -> 1.5e-12": (
        "the tolerance separates rounding, about 1e-16 a summed weight, from a difference of one weight"
    ),
    "metrics/values.py _metrics: count * mask.shape[1] -> (count / mask.shape[1])": (
        "the weights are divided by their sum afterwards, so that a common factor has no effect"
    ),
    "models/flax_model.py _front: place < size -> (place <= size)": (
        "the token at the first place of padding is another one, which no place that counts has read"
    ),
    "metrics/worst_reward.py _check_laws: law.sum(axis=-1) <= 1 + 1e-9 -> (law.sum(axis=-1) < 1 + 1e-09)": (
        "the tolerance is for rounding; no sum is that far above 1 and exactly so"
    ),
    "metrics/alarms.py _over: whole > 0 -> (whole >= 0)": "0 / 0 is NaN, which stands there in any case",
    "metrics/tournaments.py tournament_matrices: 1 -> 2": (
        "NumPy's `reshape` takes any negative length as the one to infer"
    ),
    "models/recursive.py among.extended: 0.0 -> 0.5": (
        "the same constant is added to the scores of all tokens that may be seen; softmax does not change"
    ),
    "theory/sgd/opposed_prompts.py slope_steps: rng.random(at.shape) < p_zero -> "
    "(rng.random(at.shape) <= p_zero)": (
        "a uniform number equals `p_zero` with a probability of at most 2^-53"
    ),
}
