"""Functions that claims with training share."""

import pytest

from covlab.claims.trained import left_out_notes
from metrics import proportion_interval


def test_diverged_seeds_are_a_share_of_all_seeds() -> None:
    """A seed that diverged in two runs counts once: one of four, whose exact interval is .0063 to .81."""
    (note,) = left_out_notes((1, 2, 4), ("seed 3 (forward)", "seed 3 (reversed)"))
    own = proportion_interval(1, 4)
    assert (own.low, own.high) == pytest.approx((0.0063, 0.8059), abs=1e-4)
    assert note == (
        "Diverged and left out of all runs: seed 3 (forward), seed 3 (reversed). That is 1 of 4 seeds, a "
        "share of 0.25 [0.0063, 0.81]; every mean is over the others."
    )


def test_no_note_where_no_seed_diverged() -> None:
    assert left_out_notes((1, 2), ()) == ()


def test_the_place_is_named() -> None:
    (note,) = left_out_notes((1,), ("seed 7 at H = 8", "seed 9 at H = 8"), "all horizons")
    assert "left out of all horizons: seed 7 at H = 8, seed 9 at H = 8. That is 2 of 3 seeds" in note
