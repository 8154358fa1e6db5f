"""Measurements of Crunch against what people could use instead, side by side on one machine. Not part of the tests."""
