"""Seeds of everything random in a run, derived from the run's seed and a name: no two uses share a stream.

The arm is not part of any key. Arms of equal seed therefore meet the same episodes and the same sampling noise, and
their differences can be paired by seed.
"""

from __future__ import annotations

import hashlib


def derive(*key: int | str) -> int:
    """A 31-bit seed for a key such as (run seed, "train", update, group)."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**31
