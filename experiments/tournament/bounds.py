"""Right-hand sides of the tournaments' guarantees.

Guarantees (Coverage Principle, arXiv 2510.15020, Theorems 6.3 and 6.4 with their proofs in Appendix J). The
theorems are stated up to constants; the proofs give, with probability 1 - delta,

    simple: Cov_{N^(1+a)}(chosen) <= 5 min_pi Cov_{N^a}(pi) + 4 N^-(1-a) + 32 ln(4|Pi|/delta)/n
    offset: Cov_{2N^(1+a)}(chosen) <= 256 ln(16|Pi|/delta)/n    where its premise holds

(the last line of the first proof prints N^-(1-a) without the 4 that its own chain of inequalities has).
Derived here, by the same steps with Chernoff's inequality in place of Freedman's: for the mean P^ of n
independent 0/1 variables of mean P, with probability 1 - delta each, P^ >= P/2 - ln(1/delta)/(l n) where
1 - e^-l = l/2, and P^ <= 2 P + ln(1/delta)/(u n) where e^u - 1 = 2u. Hence

    simple: 32 ln(4|Pi|/delta)/n becomes 2 (1/l + 1/u) ln(2|Pi|/delta)/n = 2.85 ln(2|Pi|/delta)/n
    offset: 256 ln(16|Pi|/delta)/n becomes 4 (1/l + 1/u) ln(3|Pi|/delta)/n = 5.69 ln(3|Pi|/delta)/n

The second does without union bounds over pairs: with pi the model within a ln N of pi_D, only pi against all
others (twice) and all others against pi on the sampled prompts are counted, 3|Pi| events.
"""

from __future__ import annotations

import math

LOWER, UPPER = 1.5936242600400401, 1.2564312086261697
"""l and u of the module's text."""


def simple_bound(
    best: float, n: float, a: float, size: int, examples: float, delta: float
) -> tuple[float, float, float]:
    """Right-hand sides of the simple tournament's guarantee: derived, the paper's, without constants.

    `best` is min_pi Cov_{N^a}(pi).
    """
    tail = n ** -(1 - a)
    common = 5 * best + 4 * tail
    return (
        common + 2 * (1 / LOWER + 1 / UPPER) * math.log(2 * size / delta) / examples,
        common + 32 * math.log(4 * size / delta) / examples,
        best + tail + math.log(size / delta) / examples,
    )


def offset_bound(size: int, examples: float, delta: float) -> tuple[float, float, float]:
    """The same of the offset tournament."""
    return (
        4 * (1 / LOWER + 1 / UPPER) * math.log(3 * size / delta) / examples,
        256 * math.log(16 * size / delta) / examples,
        math.log(size / delta) / examples,
    )
