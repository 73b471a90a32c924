"""Worlds for language models: their tasks are too rich for organisms, whose corpus does not have them."""


def is_for_language_models(world: type) -> bool:
    """Is it one of these worlds?"""
    return world.__module__.startswith(f"{__name__}.")
