"""Relearning: how soon a deployed policy has an unwanted trait again once it is trained on a few bad episodes."""
