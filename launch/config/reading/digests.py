"""Digests of configs and of other documents."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(document: Any) -> str:
    """Hash of a JSON-serialisable document, independent of the order of its keys."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
