"""What organisations need around a run: who they are, what they approved, what it may cost, what happened."""
