"""Updates of clients to vectors that a protocol adds up, and sums back to updates.

structure    updates to a list of arrays, and back
forms        what an array comes as, and comes back as
containers   what holds arrays
labels       names of axes and positions, by which arrays are matched
rounding     numbers to dtypes
coding       arrays and weights to vectors of numbers that add up, and back; error bounds
bounded      the same in quantization levels with one bound on all numbers, for sums whose bounds are checked
privacy      what a sum may tell about one client
noisy        vectors with a share of noise each, and back
compression  what clients agree on to send less
compressed   few bits a number, a part of the numbers, and back
"""

from secagg.updates.coding import Coding, Decoded, FixedPoint, Request, Units
from secagg.updates.privacy import Privacy
from secagg.updates.structure import Structure

__all__ = ["Coding", "Decoded", "FixedPoint", "Privacy", "Request", "Structure", "Units"]


def __dir__() -> list[str]:
    return sorted(__all__)
