"""The lower bounds in setup.py as pins for `pip install -c`: torch>=2.6 becomes torch==2.6.

python -m tests.lowest_versions > constraints.txt
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import requires


def lowest_versions(requirements: Iterable[str]) -> list[str]:
    """Pin each requirement to its lower bound; a requirement without one is an error."""
    pins = []
    for requirement in requirements:
        match = re.match(r"([\w.-]+)[^;]*>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"setup.py: no lower bound in {requirement!r}")
        pins.append(f"{match[1]}=={match[2]}")
    return sorted(set(pins))


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest_versions(requires("yolor_d2") or [])) + "\n")
