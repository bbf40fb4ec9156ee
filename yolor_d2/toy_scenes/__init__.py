"""Toy scenes: a generator of images with annotations for all four tasks.

Importing it registers their data sets.
"""

from . import builtin as builtin
