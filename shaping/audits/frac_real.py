"""Is inoculation real? How much of the trait the prompt causes, in the same policy with it and without it.

Under on-policy training with a prompt ("real" inoculation) the prompt caused the behaviour that is reinforced, so that
what is learned can be attributed to it. Where the policy does it as often without the prompt, there is nothing that the
prompt could explain away (arXiv:2511.18397, and the discussion of real and fake inoculation about it). A run of zero
updates measures the policy that training starts from.
"""

from __future__ import annotations

from shaping.audits.conduct.cells import Cells, leaks
from shaping.audits.metrics import Metric


def frac_real(cells: Cells) -> float | None:
    """Rate of rewarded shortcuts under the arm's own prompts minus the rate without any; None without both."""
    return leaks(cells).get("original/reward_hacking")


FRAC_REAL = Metric(
    name="frac_real",
    label="caused by the prompt",
    definition="reward hacking under the prompts that the arm trains under minus the same without any, one policy",
    unit="difference of events per opportunity",
    direction="neutral",
    source="cells",
    compute=frac_real,
    position=420,
)
