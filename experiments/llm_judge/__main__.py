"""python -m experiments.llm_judge"""

from covlab.claims.claim import command
from experiments.llm_judge import CLAIM

command(CLAIM)()
