"""Files to begin with: one plug-in or study of each kind that runs, with its test. The documentation prints them."""
