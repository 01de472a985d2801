"""Whole strings of one length."""

from oracles.small.fixed_dyck import small
from tasks import FixedDyck

INSTANCES = (small(FixedDyck(length=6, max_depth=2, type_probs=(0.3, 0.7))),)
