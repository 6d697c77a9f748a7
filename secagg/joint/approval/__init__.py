"""Who approved what: templates, approvers' keys, an organisation's policy, and the gate that holds a run to them."""
