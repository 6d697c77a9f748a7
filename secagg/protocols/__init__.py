"""Protocols over `Party`: sums, and the patterns that organisations look for together."""
