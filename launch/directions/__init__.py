"""The verb `directions` of the command line: find a direction of a model and keep it in a file."""
