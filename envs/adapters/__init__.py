"""Other people's environments as worlds, and our worlds in other people's frameworks. Each module is one extra.

A module works without the packages of the others. If its own is missing, the error names the extra to install. Name a
world as `"envs.adapters.textarena:TextArena"`, with options such as `{"game": ...}`.
"""
