"""Who takes part: members, addresses, certificates, roles, and who holds which table."""
