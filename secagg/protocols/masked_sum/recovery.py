"""Secrets from shares some of which may be wrong.

A secret is recognised by what its owner published: a masking key by its public key, a self mask's secret by what
commits to it. Where `threshold` shares do not fit, and more came, one more is taken in, and each of them is left out
in turn: that finds the wrong one, if there is one. Whether its holder or the owner who dealt it is to blame cannot be told.
So the holder's other shares are used only where there are too few without them. Two holders that lie of one secret can
choose errors that cancel without a third's share: the secret is right, and the third is suspected.

Cost: the first basis takes a time of threshold**2. A wrong share costs `threshold` steps and as many comparisons with what
was published. So does a secret that no choice of shares recovers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from secagg.errors import RangeError, RemoteProtocolError, TooFewPartiesError
from secagg.party import PartyId
from secagg.protocols.masked_sum.shamir import Basis

_MAX_BASES: Final = 64
_NAMED: Final = 10  # silent holders that an error names
_FEW: Final = 4  # points that may differ for one basis to be made from another


class Recovery:
    """Recombines shares; holders lie at their number + 1.

    Args:
      threshold: shares that give a secret back.
      n_corrupt: clients that may be corrupt.
      name_of: returns a client's name.

    Attributes:
      suspects: holders of a share without which others fitted, by number.
    """

    __slots__ = ("_bases", "_last", "_n_corrupt", "_name_of", "_threshold", "suspects")

    def __init__(self, threshold: int, n_corrupt: int, name_of: Callable[[int], PartyId]) -> None:
        self._threshold, self._n_corrupt, self._name_of = threshold, n_corrupt, name_of
        self._bases: dict[tuple[int, ...], Basis] = {}
        self._last: Basis | None = None
        self.suspects: set[int] = set()

    def secret(
        self,
        owner: int,
        shares: Mapping[int, int],
        fits: Callable[[bytes], bool],
        *,
        silent: Sequence[int] = (),
        unreadable: int = 0,
    ) -> bytes:
        """Return an owner's secret.

        Args:
          shares: by holder.
          fits: whether a candidate is what the owner published.
          silent: holders that did not answer.
          unreadable: how many answered with what is no share.

        Raises:
          TooFewPartiesError: fewer holders than the threshold sent a share. Its peer is the owner where more holders than
            can be corrupt could not open what it dealt them. Else it is a holder that did not answer, or "" where all
            did.
          RemoteProtocolError: no choice of shares fits. Its peer is "": the owner may have dealt wrong ones, or holders may
            have sent them.
        """
        name, threshold = self._name_of(owner), self._threshold
        holders = sorted(shares, key=lambda holder: (holder in self.suspects, holder))
        if len(holders) < threshold:
            # One of them is honest, so that what it got from the owner was no share.
            dealt_none = unreadable > self._n_corrupt
            names = [name] if dealt_none else [self._name_of(holder) for holder in silent]
            if dealt_none:
                why = f"{unreadable} could not open what {name} dealt them"
            elif names:
                why = f"no answer from {', '.join(names[:_NAMED])}"
            else:
                why = f"{unreadable} sent what is no share, or {name} dealt them none: which, cannot be told"
            raise TooFewPartiesError(
                f"expected shares of {name}'s secret from at least {threshold} clients, got {len(holders)}; {why}; nothing "
                "was opened",
                peer=names[0] if names else "",
            )
        chosen, spare = sorted(holders[:threshold]), holders[threshold:]
        found = self._combine(chosen, shares, fits)
        if found is not None:
            return found
        if spare:
            more = sorted([*chosen, spare[0]])
            candidates = self._basis(more).without_each([shares[holder] for holder in more])
            for suspect, candidate in zip(more, candidates, strict=True):
                if suspect != spare[0] and candidate is not None and fits(candidate):
                    self.suspects.add(suspect)
                    return candidate
        raise RemoteProtocolError(
            f"the shares of {name}'s secret do not give what {name} published: {name} dealt wrong shares, or clients "
            f"that hold them sent others; which of them cannot be told from {len(holders)} shares"
        )

    def _combine(
        self, holders: list[int], shares: Mapping[int, int], fits: Callable[[bytes], bool]
    ) -> bytes | None:
        try:
            secret = self._basis(holders).combine([shares[holder] for holder in holders])
        except RangeError:
            return None
        return secret if fits(secret) else None

    def _basis(self, holders: list[int]) -> Basis:
        points = tuple(holder + 1 for holder in holders)
        basis = self._bases.get(points)
        if basis is None:
            last = self._last
            if last is not None and len(set(points).symmetric_difference(last.points)) <= _FEW:
                basis = last.changed_to(points)
            else:
                basis = Basis(points)
            if len(self._bases) >= _MAX_BASES:
                self._bases.clear()
            self._bases[points] = basis
        self._last = basis
        return basis
