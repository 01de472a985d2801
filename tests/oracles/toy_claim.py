"""A claim that trains nothing: its number holds if it is at least 1."""

import dataclasses
from typing import Annotated

from matplotlib.figure import Figure

from covlab.claims.claim import Claim, Study
from covlab.claims.settings import Real
from covlab.report.plotting import Drawing
from covlab.report.verdict import check_value


@dataclasses.dataclass(frozen=True)
class Settings:
    """A number that is its own measurement."""

    tilt: Annotated[float, Real(above=0, below=5)] = 1.0


def measure(settings: Settings, study: Study) -> Settings:
    study.progress.update("measuring", 1, 1)
    return settings


CLAIM = Claim(
    name="toy",
    source="Some paper, section 1",
    title="A title",
    introduction=("A paragraph.",),
    settings=Settings,
    measure=measure,
    checks=lambda results: [check_value("the tilt", results.tilt, ">=", 1)],
    notes=lambda results: ("A note.",),
    drawings=lambda results: [Drawing("picture", "A caption.", Figure())],
    tables=lambda results: [("Numbers.", ["tilt"], [[results.tilt]])],
    seeds=lambda results: (7,),
    scales={"cpu": {}},
)
