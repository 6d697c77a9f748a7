"""Additive encryption of integer vectors under ring learning with errors; see `keys`."""
