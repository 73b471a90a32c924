"""From text to tokens and back: templates, turn ends, motives and actions, masks."""
