"""The training run of experiments.figure1."""

from __future__ import annotations

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.shortcut import require_shortcut
from covlab.launch.build import Setup
from experiments.figure1.measure import RUN, Settings


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The command's configuration as a whole; the run lies in the claim's own directory.

    The claim's settings stay in the configuration of the run, as in the runs of earlier versions, which are
    continued by equal configurations alone.
    """
    return {RUN: Arm(plan.config, directory=".")}


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("figure1", setup.seeds)
    require_shortcut("figure1", setup)
