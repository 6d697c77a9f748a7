"""Sorting in secret, and permutations: `sort` and what it stands on.

- `sort`: columns by keys, stably; which method costs least.
- `keys`: what columns may be sorted by, and the numbers that they make.
- `quicksort`, with `comparisons` and `expectation`: by opened comparisons of shuffled rows.
- `radix`: by counting digits.
- `permutations`: applied to columns, and inverted.

Nothing here knows how many parties compute.
"""
