"""On-policy distillation: the reverse KL to a teacher at the prefixes that the student itself draws.

Source: Agarwal et al., On-Policy Distillation of Language Models, arXiv 2306.13649, section 3.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import real
from training.objectives import Objective, Scores
from training.old_scores import divergence


def smoothed_teacher(teacher: Float[Array, "*batch vocab"], smoothing: float) -> Float[Array, "*batch vocab"]:
    """ln((1 - s) pi_D(a|x, y_<t) + s/V) in nats, from ln pi_D, which may be -inf; V tokens, s = smoothing.

    Example:
        >>> jnp.exp(smoothed_teacher(jnp.array([0.0, -jnp.inf]), 0.5))
        Array([0.75, 0.25], dtype=float32)
    """
    return jnp.logaddexp(jnp.log1p(-smoothing) + teacher, jnp.log(smoothing / teacher.shape[-1]))


@dataclasses.dataclass(frozen=True)
class OnPolicyDistillation(Objective):
    """Reverse KL to pi_D, token by token, on responses that the model in training has drawn:

        sum_t KL(pi(.|x, y_<t) || T(.|x, y_<t)),  T = (1 - s) pi_D + s/V,  y ~ pi(.|x),

    in nats over the whole vocabulary of V tokens. No gradient flows through the drawing of the response, as
    in the source's generalised knowledge distillation with its student's data alone and the reverse KL. The
    share s keeps the divergence finite where pi_D is 0. A prefix that pi_D cannot write has no next-token law
    and adds nothing: the token that left pi_D's support has been charged already.

    A task's pi_D may depend on what the model cannot see. The minimiser is then pi proportional to
    exp(E ln T), the mean over what it cannot see, and not E pi_D, which cross-entropy gives: it commits to
    the likelier class.

    Attributes:
        teacher_smoothing: s, strictly between 0 and 1.

    Raises:
        ValueError: s out of range; on a call, scores without distributions or teacher.
    """

    teacher_smoothing: float = 0.01

    def __post_init__(self) -> None:
        real("objective.teacher_smoothing", self.teacher_smoothing, above=0, below=1)

    @property
    def needs_policy(self) -> bool:
        """True: the student's own prefixes are distilled."""
        return True

    @property
    def needs_teacher(self) -> bool:
        """True: the teacher is pi_D."""
        return True

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Sum over the response of the divergences from the teacher, in nats."""
        if scores.teacher is None or scores.distributions is None:
            raise ValueError("scores: without distributions or teacher; distillation compares them")
        teacher = jax.lax.stop_gradient(scores.teacher)
        known = scores.mask & jnp.any(teacher > -jnp.inf, axis=-1)
        apart = divergence(scores.distributions, smoothed_teacher(teacher, self.teacher_smoothing))
        return jnp.sum(jnp.where(known, apart, 0.0), axis=-1)
