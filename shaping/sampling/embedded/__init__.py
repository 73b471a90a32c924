"""The embedded engine: transformers in this process, with its cache and its draws."""
