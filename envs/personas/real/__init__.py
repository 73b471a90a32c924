"""How scripted policies play the worlds for language models. The corpus of organisms does not have them."""
