"""The site of the documentation; no part of the package."""
