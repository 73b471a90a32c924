"""Audits of conduct: what the policy did, per chance to do it, and where nobody looked."""
