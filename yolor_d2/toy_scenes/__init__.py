"""Toy scenes: a generator of images with annotations for all four tasks.

Importing the package registers its data sets.
"""

from . import builtin as builtin
