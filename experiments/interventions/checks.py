"""Checks of experiments.interventions, with the reason for each target, and notes."""

from __future__ import annotations

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.interventions.measure import (
    DECODED,
    LAWS,
    NORMALISED,
    SEQUENCE,
    SEQUENCE_LARGE,
    TITLES,
    TOKEN,
    TOKEN_LARGE,
    TRUNCATED,
    TRUNCATED_LAWS,
    Gap,
    Measurements,
    cov_gap,
    log_kl_gap,
)
from metrics import mean_interval

ROOM = (0.2, 0.8)
"""Least and largest Cov_N of a step per sequence, at the longest H, at which a difference can show in either
direction."""
LEARNED = 0.5
"""Largest share of the KL before training that may be left after it, with a step per sequence."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval over seeds.

    The theorems are about autoregressive linear models, and for transformers nothing is proved. Both bound
    the mean over the iterates at equal data, with the step size that suits each method, free of a term B^2
    H/T that a step per sequence has in the worst case. So every check is on means over the iterates, each
    run has a learning rate chosen on other seeds (docs/rates.md), and the threshold is 0: theory gives
    signs and no sizes. An interval below 0 refutes the check: the intervention costs what it should gain.

    Theorem 6.1, a step per token with test-time training:

    - KL: ln of a step per sequence's over test-time training's is above 0 at the longest H, and grows with
      log2 H, because the term without H wins the more the longer the responses are.
    - Cov_N: the difference is above 0 there, and grows.
    - The decoder has a part in it: the same parameters have a higher KL without the steps at test time. If
      not, whatever is gained is the training's. All seeds share the held-out pairs of this check, which enter
      its interval.

    - Large steps, four times the best rate of a step per sequence in both runs: KL is lower with a step per
      token at the longest H, and the more so the longer. The theorem allows steps of 1/(2 B^2), where a step
      per sequence allows 1/(2 H B^2): that is its reason.

    Theorem 6.2, the truncated step:

    - Cov_N: a step per sequence's minus the truncated step's is above 0 at the longest H, and grows.
    - Normalised SGD (Theorem 5.1) covers less than the truncated step, whose rate is better by the
      theorems.
    - Where the teacher's whole next-token laws are the labels, truncation helps too: without noise of
      sampled tokens, what remains of the theorem's reason is the size of the step.

    Three checks say that the comparisons are not empty: with a step per sequence Cov_N lies in [.2, .8] at
    the longest H (two checks), and training removes half of the KL at every H or more. The coverage bound
    by KL holds at every evaluation. That is eleven checks of the claim and four of the measurement.
    """
    runs, n = results.lengths[results.longest], results.n
    h, base = f"H = {results.longest}", f"Cov_{n:g} of a step per sequence minus its own"
    trained = "test-time training"
    made = [
        *_longest_and_growth(
            results, f"{trained}: ln of KL of a step per sequence over its own", log_kl_gap(TOKEN, SEQUENCE)
        ),
        *_longest_and_growth(results, f"{trained}: {base}", cov_gap(TOKEN, SEQUENCE)),
        above(
            f"{trained}: KL (nats) of the same parameters without its steps minus its own, {h}",
            runs[TOKEN].kl_gain,
            0,
        ),
        *_longest_and_growth(
            results,
            "large steps: ln of KL of one per sequence over one per token",
            log_kl_gap(TOKEN_LARGE, SEQUENCE_LARGE),
        ),
        *_longest_and_growth(results, f"truncation: {base}", cov_gap(TRUNCATED, SEQUENCE)),
        above(
            f"truncation: Cov_{n:g} of a normalised step minus its own, {h}",
            mean_interval(cov_gap(TRUNCATED, NORMALISED)(runs)),
            0,
        ),
        above(
            f"truncation of the teacher's laws: Cov_{n:g} of the laws minus its own, {h}",
            mean_interval(cov_gap(TRUNCATED_LAWS, LAWS)(runs)),
            0,
        ),
    ]
    room = mean_interval(runs[SEQUENCE].mean_cov)
    left = [each[SEQUENCE].fixed_kl.mean(axis=0) for each in results.lengths.values()]
    made += [
        at_least(f"a step per sequence: Cov_{n:g}, {h}, least", room, ROOM[0]),
        at_most(f"a step per sequence: Cov_{n:g}, {h}, largest", room, ROOM[1]),
        at_most(
            "a step per sequence: KL after training over KL before, largest of all H",
            max(float(kls[-1] / kls[0]) for kls in left),
            LEARNED,
        ),
    ]
    return (*made, check_bound(results.bound_excess))


def _longest_and_growth(results: Measurements, what: str, of: Gap) -> tuple[Check, Check]:
    """A gap is above 0 at the longest H, and grows with log2 H."""
    longest = mean_interval(of(results.lengths[results.longest]))
    return (
        above(f"{what}, H = {results.longest}", longest, 0),
        above(f"{what}, growth for each doubling of H", results.growth(of), 0),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    n = results.n
    written = [
        f"Means over the iterates are over the training sequences, each before it is learned from. Gaps are "
        f"paired by seed. N = {n:g} in Cov_N and in the truncation."
    ]
    for length, runs in results.lengths.items():
        spread = "; ".join(
            f"{TITLES[arm]} {interval_text(mean_interval(curves.mean_kl), '.3g')} nats and "
            f"{interval_text(mean_interval(curves.mean_cov))}"
            for arm, curves in runs.items()
        )
        written.append(f"H = {length}, KL and Cov_{n:g}, means over the iterates: {spread}.")
        parts = "; ".join(
            f"{TITLES[arm] if arm == SEQUENCE else 'a step per token'}: KL "
            f"{interval_text(runs[arm].kl_gain, '.3g')} nats, Cov_{n:g} {interval_text(runs[arm].cov_gain)}"
            for arm in DECODED
        )
        written.append(
            f"H = {length}, parameters without minus with the steps of test-time training, held-out pairs, "
            f"mean over the iterates: {parts}."
        )
    rates = "; ".join(
        f"H = {length}: " + ", ".join(f"{arm} {rate:g}" for arm, rate in own.items())
        for length, own in results.rates.items()
    )
    written.append(f"Learning rates, chosen on other seeds: {rates}.")
    return (*written, *left_out_notes(results.seeds, results.left_out))
