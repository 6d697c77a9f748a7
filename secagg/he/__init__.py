"""The place of homomorphic encryption for sums; it holds no scheme yet."""
