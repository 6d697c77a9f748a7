"""What organisations agree on and run: job files, one party's part, all parties on one machine, records."""
