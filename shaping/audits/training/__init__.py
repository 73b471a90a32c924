"""Audits of training: what the updates did, what they selected, what was within reach."""
