"""Contracts for tasks, models, objectives and claims, as classes of tests for pytest.

    from covlab.testing import task_contract

    TestMine = task_contract(MyTask(length=3))

pytest collects the class under the name that it is given. Nothing else of covlab imports this package or
pytest: `pip install 'covlab[testing]'`. docs/extending.md has an example of each contract.
"""

import pytest

# Before they are imported, so that a failed assertion shows its values.
pytest.register_assert_rewrite(
    *(f"covlab.testing.{name}" for name in ("claims", "known_checks", "models", "objectives", "tasks"))
)

from covlab.testing.claims import claim_contract  # noqa: E402
from covlab.testing.known_checks import Known, agree, decides, known_answers  # noqa: E402
from covlab.testing.models import model_contract  # noqa: E402
from covlab.testing.objectives import objective_contract  # noqa: E402
from covlab.testing.statistics import chi_square_p, uniform_p  # noqa: E402
from covlab.testing.tasks import Small, task_contract  # noqa: E402

__all__ = [
    "Known",
    "Small",
    "agree",
    "chi_square_p",
    "claim_contract",
    "decides",
    "known_answers",
    "model_contract",
    "objective_contract",
    "task_contract",
    "uniform_p",
]
