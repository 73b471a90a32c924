"""How much a run plays and how long it trains, where that depends on what it earns."""
