"""What [DJ01] defines, computed as it stands there."""

from __future__ import annotations

import math


def discrete_logarithm(power: int, n: int, s: int) -> int:
    """Return m from (1 + n)^m modulo n^(s+1) by the loop of Damgard and Jurik, section 3."""
    i = 0
    for j in range(1, s + 1):
        t1, t2 = (power % n ** (j + 1) - 1) // n % n**j, i
        for k in range(2, j + 1):
            i -= 1
            t2 = t2 * i % n**j
            t1 = (t1 - t2 * n ** (k - 1) * pow(math.factorial(k), -1, n**j)) % n**j
        i = t1
    return i
