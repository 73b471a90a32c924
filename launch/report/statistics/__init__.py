"""The statistics behind verdicts: contrasts of arms, evaluation noise, rare catastrophes, power, sequential looks."""
