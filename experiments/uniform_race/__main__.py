"""python -m experiments.uniform_race"""

from covlab.claims.claim import command
from experiments.uniform_race import CLAIM

command(CLAIM)()
