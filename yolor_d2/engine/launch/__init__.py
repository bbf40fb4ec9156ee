"""Starting the processes of a run: command line, launchers, signals, cluster checks."""

from .arguments import argument_parser
from .processes import launch

__all__ = ["argument_parser", "launch"]
