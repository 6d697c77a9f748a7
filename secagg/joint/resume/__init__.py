"""How a run goes on after a fault: checkpoints, encrypted at rest and deleted at the end."""
