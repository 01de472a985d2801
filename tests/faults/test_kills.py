"""SIGKILL at random moments of `python -m experiments.train`; `campaign.py` is the long version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.campaign import Attempt, campaign, result


@pytest.mark.slow
def test_no_line_is_lost_or_changed(tmp_path: Path) -> None:
    """`COVLAB_KILLS` kills, 20 if it is not set; the moments are drawn with seed 1."""
    found = campaign(tmp_path, int(os.environ.get("COVLAB_KILLS", "20")), seed=1, show=False)
    assert found["holds"], found
    assert found["kills"] == int(os.environ.get("COVLAB_KILLS", "20"))


def test_the_verdict_counts_what_went_wrong() -> None:
    good = Attempt(0, 0, 1.0, 1.0, True, "phase one", 4)
    assert result([good], 0, 9.0)["holds"]
    for damage in ({"lost": 1}, {"changed": 2}, {"problem": "printed: Traceback"}):
        bad = Attempt(**(vars(good) | damage))
        assert not result([good, bad], 0, 9.0)["holds"]
