"""Whether a run could begin now: checks at this end and against every peer."""
