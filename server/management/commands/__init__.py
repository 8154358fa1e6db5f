"""Commands of `python -m server`."""
