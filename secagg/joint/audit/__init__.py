"""What happened: a hash-chained, signed log that several parties can compare."""
