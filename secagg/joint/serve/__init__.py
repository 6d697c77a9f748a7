"""A party that waits for approved jobs, and its web page."""
