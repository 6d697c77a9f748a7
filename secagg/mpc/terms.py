"""What parties call alike: an engine by its computing parties and label, an array from or to outside by shape and dtype.

Names are public. They travel in the headers of messages that leave anyway, and cost no round and no payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from secagg.errors import RemoteProtocolError
from secagg.party import PartyId
from secagg.printable import printable

_SHOWN: Final = 200  # characters of what a peer names


def terms_of_engine(computing: Sequence[PartyId], label: str) -> bytes:
    """Return the computing parties in order, and the label, as text."""
    return f"{', '.join(computing)} with the label {label!r}".encode()


def terms_of_array(shape: Sequence[int], dtype: object, computing: Sequence[PartyId]) -> bytes:
    """Return shape, dtype and computing parties in order, as text."""
    return f"{tuple(shape)} of {dtype} at {', '.join(computing)}".encode()


def check_terms(me: PartyId, mine: bytes, theirs: Mapping[PartyId, bytes], *, what: str) -> None:
    """Refuse peers that name something else than this party.

    Args:
      mine, theirs: what is named; public.
      what: whose terms they are, for the message.

    Raises:
      RemoteProtocolError: somebody names something else; `peer` is the party where it is one alone.
    """
    others = {peer: terms.decode(errors="replace") for peer, terms in theirs.items() if terms != mine}
    if others:
        said = "; ".join(f"{peer} has {printable(text, _SHOWN)}" for peer, text in others.items())
        raise RemoteProtocolError(
            f"the terms of {what} differ: {me} has {mine.decode()}; {said}. Nothing is computed or opened by them; let the "
            "programs of all parties name the same",
            peer=next(iter(others)) if len(others) == 1 else "",
        )
