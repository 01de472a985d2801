"""Data distributions that are known exactly."""

from tasks.base import PAD, Enumeration, Example, Task
from tasks.graph_classes import CLASSES, GraphClass, GraphLatent
from tasks.layered_graph import LayeredGraph
from tasks.streams import stream

__all__ = [
    "CLASSES",
    "PAD",
    "Enumeration",
    "Example",
    "GraphClass",
    "GraphLatent",
    "LayeredGraph",
    "Task",
    "stream",
]
