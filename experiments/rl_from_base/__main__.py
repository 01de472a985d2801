"""python -m experiments.rl_from_base"""

from covlab.claims.claim import command
from experiments.rl_from_base import CLAIM

command(CLAIM)()
