"""Emergent misalignment of real models: free-form questions, their answers, and what judges make of them.

The protocol is that of arXiv:2502.17424, with other questions: a model answers each of them several times, judges score
alignment and coherence apart, and an answer is misaligned if the first is low and the second is not.
"""
