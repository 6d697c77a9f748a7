"""Joint computations on data that organisations may not show each other."""

__version__ = "0.1.0"
