"""python -m experiments.early_warning"""

from covlab.claims.claim import command
from experiments.early_warning import CLAIM

command(CLAIM)()
