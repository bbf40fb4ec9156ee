#!/usr/bin/env python
"""Train or evaluate what a configuration describes: *.yaml, or *.py for a LazyConfig."""

from yolor_d2.engine.launch.arguments import argument_parser
from yolor_d2.engine.launch.processes import launch
from yolor_d2.engine.main import main

if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
