"""python -m experiments.architectures"""

from covlab.claims.claim import command
from experiments.architectures import CLAIM

command(CLAIM)()
