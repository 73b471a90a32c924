"""Other people's environments as worlds, and our worlds in other people's frameworks. Each module is one extra.

Nothing is imported before it is used: a module works without the packages of the others, and says which extra to
install when its own is missing. Name a world as `"envs.adapters.textarena:TextArena"` with options `{"game": ...}`.
"""
