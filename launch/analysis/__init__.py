"""For notebooks and scripts: studies as frames and episodes, and episodes sampled without a study.

`import shaping` offers what is here (`shaping.open_study`, `shaping.sample`, `shaping.play`, `shaping.open_policy`).
"""
