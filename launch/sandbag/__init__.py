"""Sandbagging: does a policy score higher once noise disturbs its weights?"""
