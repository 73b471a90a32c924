"""Sections on how training went: early warning, over-optimisation, stages, costs, attrition."""
