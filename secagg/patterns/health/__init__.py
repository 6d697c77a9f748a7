"""Patterns for hospitals: statistics of patients at several of them."""
