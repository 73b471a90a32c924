"""`shaping`, also as `python -m shaping`: the command line, once it is sure that its packages are its own.

It lies here because `launch` may be what a module of the user's hides. It names that package as text: nothing in
`shaping` depends on it.
"""

from __future__ import annotations

import importlib
import sys

from shaping.together import stranger


def main() -> None:
    """Run the command line; exit code 1, with both files, if a module of the user's hides one of its packages."""
    if fault := stranger():
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(1)
    importlib.import_module("launch.cli").main()


if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))  # `-m` puts the working directory first, which the installed command does not
    main()
