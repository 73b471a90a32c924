"""Rollout workers: Ray actors that play groups and evaluations, and the controller's side of them."""
