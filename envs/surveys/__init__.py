"""Worlds that ask for opinions: nothing is done there, so they need no overseer, no shortcut and no audit."""
