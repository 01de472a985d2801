"""python -m experiments.figure1"""

from covlab.claims.claim import command
from experiments.figure1 import CLAIM

command(CLAIM)()
