"""The three stages of a dataset's run (Setup, Workflow, Upload) and what they stand on."""

__version__ = "0.1.0"
