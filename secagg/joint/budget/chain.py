"""What peers remember of an organisation's budget, so that an old copy of it is seen.

Each entry of a budget has a number and a head, SHA-256 over the head before it and the entry. A `Token` is the last
number and head, with a MAC under a key of the home folder. So the organisation that made a token can tell it from one that
a peer made up.

At the start of a run each party tells its token, and the token that it last saw of each other. Then

- a peer sees that a number went back, or that one number has two heads;
- an organisation sees that a peer remembers what its own record does not hold. Of two copies of one folder, each used with
  the same peer, the second one is seen whatever number it has reached by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from secagg.errors import RemoteProtocolError
from secagg.signing import digest

__all__ = ["ID_BYTES", "START", "Token", "next_head"]

ID_BYTES: Final = 16
_COUNT_BYTES, _HEAD_BYTES, _MAC_BYTES = 8, 32, 32
START: Final = bytes(_HEAD_BYTES)  # the head before the first entry
_LABEL: Final = "secagg.joint.budget"


def next_head(head: bytes, content: bytes) -> bytes:
    """Return the head after an entry, 32 bytes."""
    return digest(f"{_LABEL}/head", [head, content])


@dataclass(frozen=True, slots=True)
class Token:
    """How far the record of a budget was seen to have come.

    Attributes:
      id: 16 bytes, of the record since it was begun, or begun anew.
      count: its number of entries.
      head: over all of them.
      mac: of these under the key of the folder that holds the record.
    """

    id: bytes
    count: int
    head: bytes
    mac: bytes

    @classmethod
    def made(cls, key: bytes, id_: bytes, count: int, head: bytes) -> Token:
        """Return the token of a record."""
        return cls(id_, count, head, _mac(key, id_, count, head).finalize())

    def is_made_with(self, key: bytes) -> bool:
        """Return whether the folder of this key made it."""
        try:
            _mac(key, self.id, self.count, self.head).verify(self.mac)
        except InvalidSignature:
            return False
        return True

    def is_before(self, known: Token) -> bool:
        """Return whether a record that was seen at `known` cannot be here now: it went back, or is another copy."""
        return self.count < known.count or (self.count == known.count and self.head != known.head)

    def to_bytes(self) -> bytes:
        """Return it in 88 bytes."""
        return self.id + self.count.to_bytes(_COUNT_BYTES, "big") + self.head + self.mac

    @classmethod
    def from_bytes(cls, data: bytes, *, peer: str) -> Token:
        """Return what `to_bytes` wrote.

        Raises:
          RemoteProtocolError: of another length.
        """
        size = ID_BYTES + _COUNT_BYTES + _HEAD_BYTES + _MAC_BYTES
        if len(data) != size:
            raise RemoteProtocolError(
                f"expected the state of a budget in {size} bytes from {peer}, got {len(data)}", peer=peer
            )
        rest = data[ID_BYTES:]
        count = int.from_bytes(rest[:_COUNT_BYTES], "big")
        rest = rest[_COUNT_BYTES:]
        return cls(data[:ID_BYTES], count, rest[:_HEAD_BYTES], rest[_HEAD_BYTES:])


def _mac(key: bytes, id_: bytes, count: int, head: bytes) -> HMAC:
    mac = HMAC(key, SHA256())
    mac.update(digest(f"{_LABEL}/token", [id_, count.to_bytes(_COUNT_BYTES, "big"), head]))
    return mac
