"""What drives parties: one thread with a virtual clock, TLS between processes, or the caller's own carrier."""
