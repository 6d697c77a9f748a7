"""Secret sharing, and computing on shares: n-party additive sharing and the three-party replicated engine."""

if __name__ == "mpc":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)
