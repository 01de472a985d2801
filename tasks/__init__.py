"""Data distributions with exactly known probabilities."""

from tasks.autoregressive_linear import AutoregressiveLinear
from tasks.base import PAD, Enumeration, Example, Task
from tasks.bracket_state import BracketLatent
from tasks.brackets import BracketTask
from tasks.drawing import categorical
from tasks.dyck import Dyck
from tasks.fixed_dyck import FixedDyck
from tasks.graph_classes import CLASSES, GraphClass, GraphLatent
from tasks.layered_graph import LayeredGraph
from tasks.path_star import PathStar, PathStarLatent
from tasks.streams import check_seed, check_seeds, numpy_stream, pin_settings, stream

__all__ = [
    "CLASSES",
    "PAD",
    "AutoregressiveLinear",
    "BracketLatent",
    "BracketTask",
    "Dyck",
    "Enumeration",
    "Example",
    "FixedDyck",
    "GraphClass",
    "GraphLatent",
    "LayeredGraph",
    "PathStar",
    "PathStarLatent",
    "Task",
    "categorical",
    "check_seed",
    "check_seeds",
    "numpy_stream",
    "pin_settings",
    "stream",
]
