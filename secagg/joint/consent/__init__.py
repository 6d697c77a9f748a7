"""Whose rows never enter: exclusion lists, and showing that a person was not in a run."""
