"""Protocols over `Party`: sums, and the patterns that organisations look for together."""

if __name__ == "protocols":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)
