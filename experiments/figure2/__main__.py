"""python -m experiments.figure2"""

from covlab.claims.claim import command
from experiments.figure2 import CLAIM

command(CLAIM)()
