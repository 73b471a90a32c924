"""What organisms and warm starts learn from: personas, prompts, options, sequences."""
