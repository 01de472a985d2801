"""Scales of the claims that train nothing: sizes span a factor of 16, draws suffice, seeds are fresh."""

import importlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import pytest
from omegaconf import DictConfig

from covlab.claims.settings import read

pytestmark = pytest.mark.long


def tuples(settings: Any) -> Iterable[Sequence[float]]:
    return [value for value in vars(settings).values() if isinstance(value, tuple)]


class Scale(NamedTuple):
    """What a claim's scales are asked.

    Attributes:
        sizes: those that an exponent is fitted to, by settings.
        tuning: seeds on which the settings were chosen.
        draws: settings that count draws.
        seeds: the seeds of the claim, by settings.
    """

    sizes: Callable[[Any], Iterable[Sequence[float]]]
    tuning: Collection[int]
    draws: Sequence[str] = ()
    seeds: Callable[[Any], Iterable[int]] = lambda settings: [settings.seed]


CHAINS = (900, 901, 902, 999)
OF_900 = range(900, 2**31)
BOTH = ("draws", "family_draws")
SCALES = {
    "batch_bias": Scale(lambda s: (s.inverses,), (970, 990), ("draws",)),
    "best_of_n": Scale(lambda s: (s.alphabets, s.budgets, s.ratios, s.ns), range(900, 980)),
    "coverage_bounds": Scale(lambda s: s.sizes.values(), range(900, 960), ("draws",)),
    "mle_horizon": Scale(lambda s: (s.horizons,), OF_900, ("draws",)),
    "mle_lower_bounds": Scale(tuples, OF_900, ("draws",)),
    "mle_rates": Scale(tuples, OF_900, ("draws",)),
    "scaling_law": Scale(lambda s: (s.ns,), (970, 990), ("draws",)),
    "token_sgd": Scale(lambda s: (s.horizons, s.sequence_counts, s.family_horizons), range(900, 906), BOTH),
    "tournament": Scale(
        lambda s: (s.examples, [n for n in s.pair_examples if n >= 16 * s.pair_m]),
        range(900, 912),
        ("seeds",),
        lambda s: s.all_seeds,
    ),
    "truncated_distillation": Scale(
        lambda s: (s.step_counts, s.log_ns, s.family_horizons), range(900, 906), BOTH
    ),
    "vgb_delay": Scale(lambda s: (s.horizons,), CHAINS, seeds=lambda s: s.chain.seeds),
    "vgb_perturbation": Scale(lambda s: (s.horizons,), CHAINS, seeds=lambda s: s.chain.seeds),
}


@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize("name", SCALES)
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    name: str, scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    claim = importlib.import_module(f"experiments.{name}").CLAIM
    settings, asked = read(claim.settings, compose_config(name, f"scale={scale}")), SCALES[name]
    for sizes in asked.sizes(settings):
        assert len(sizes) >= 5
        assert sizes[-1] >= 16 * sizes[0] * (1 - 1e-9)
    assert all(getattr(settings, draws) >= 32 for draws in asked.draws)
    assert not any(seed in asked.tuning for seed in asked.seeds(settings)), "settings were chosen on these"
    if name in ("token_sgd", "truncated_distillation"):
        assert settings.tuning_seed in asked.tuning
    elif name == "tournament":
        assert len(settings.sizes) >= 3
    elif name == "vgb_perturbation":
        assert settings.epsilons[-1] >= 16 * settings.epsilons[0]
