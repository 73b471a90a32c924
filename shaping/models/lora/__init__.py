"""Named LoRA adapters: targets, checkpoints, several as one."""
