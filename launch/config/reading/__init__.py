"""How a study's document is read: YAML, keys, conversions, old names, secrets, places, digests."""
