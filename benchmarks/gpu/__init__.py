"""The GPU kit: does the code give on a GPU what it gives on a CPU, with which kernels, and how fast.

`make gpu-check`, or `python -m benchmarks.gpu` on any machine that has torch, transformers, peft, pydantic and
gymnasium; Ray, vLLM and TRL are used where they are installed. Models are random ones of real shapes.
"""
