"""From token streams to packed batches: contexts, gates, common prefixes, forced text."""
