"""GPU: checks against the CPU, and all measurements of a GPU, within a number of minutes."""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
