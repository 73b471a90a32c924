"""Subject gates: can a model read prompts and cues at all, and does it lie or only react?

A study of motives and constraints says nothing of a model that is deaf to both. Gates are measured from episodes of the
model as it is, under prompts that no organism has met in pre-training (`HELD_OUT` of
`shaping.organisms.corpus.corpus_prompts`).
"""
