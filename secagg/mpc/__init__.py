"""Secret sharing, and computing on shares: n-party additive sharing and the three-party replicated engine."""
