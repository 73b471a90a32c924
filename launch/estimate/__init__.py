"""How long a study will take: said before it starts, from runs that were timed on one machine."""
