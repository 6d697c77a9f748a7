"""secagg's streams in the place of torch's generators, from which CrypTen draws every mask.

torch seeds its Mersenne Twister with the low 32 bits of a seed and drops the others. CrypTen masks what it opens with what
such generators give. One of two parties finds the other one's seed in 2**32 tries, and with it whatever was masked.

CrypTen draws through two functions, and passes them one of its generators, or none for its own (`local`). A `Source` in a
generator's place is drawn from instead. The one generator that stays torch's is `global`: what it gives (which neurons
drop out) is known to all computing parties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from secagg.errors import UsageError
from secagg.prg import Stream

_WORD_BITS: Final = 64


class Source:
    """A stream that CrypTen takes for one of torch's generators.

    Args:
      torch: the module.
      stream: for this source alone.
    """

    __slots__ = ("_stream", "_torch", "device")

    def __init__(self, torch: Any, stream: Stream) -> None:
        self._torch = torch
        self._stream = stream
        self.device = torch.device("cpu")

    def __repr__(self) -> str:
        return "<Source>"

    def draw(self, size: int | Sequence[int], bits: int) -> Any:
        """Return an int64 tensor of numbers that are uniform modulo 2**bits; of 64 bits they are signed."""
        shape = (size,) if isinstance(size, int) else tuple(size)
        drawn = self._stream.ring(shape, bits)
        words = drawn.view(np.int64) if bits == _WORD_BITS else drawn.astype(np.int64)
        return self._torch.from_numpy(words)


def replace_generators(
    torch: Any, crypten: Any, *, previous: Stream, following: Stream, local: Stream
) -> None:
    """Put streams in the place of CrypTen's generators of this process, until it is initialised again.

    Args:
      previous, following: in common with the party of the rank before, and of the rank behind.
      local: this party's own.
    """
    _divert(torch, crypten)
    for name, stream in (("prev", previous), ("next", following), ("local", local)):
        crypten.generators[name][torch.device("cpu")] = Source(torch, stream)


def remove_generators(torch: Any, crypten: Any) -> None:
    """Take the streams away; CrypTen makes generators of its own when it is next initialised."""
    for name in ("prev", "next", "local"):
        crypten.generators[name].pop(torch.device("cpu"), None)


def replace_dealers_generators(torch: Any, crypten: Any, server: Any, streams: Sequence[Stream]) -> None:
    """Have the dealer draw the shares of each rank from the stream that it has in common with it."""
    _divert(torch, crypten)
    server.generators = [Source(torch, stream) for stream in streams]


def _divert(torch: Any, crypten: Any) -> None:
    """Have the functions that CrypTen draws by take a `Source`, wherever a module of its calls them; once a process."""
    rng = crypten.common.rng
    if hasattr(rng, "_secagg_diverted"):
        return
    rng._secagg_diverted = True
    users = (
        rng,
        crypten.mpc.provider.ttp_provider,
        crypten.mpc.provider.tfp_provider,
        crypten.mpc.primitives.arithmetic,
        crypten.mpc.primitives.binary,
    )
    for name in ("generate_random_ring_element", "generate_kbit_random_tensor"):
        diverted = _diverted(torch, crypten, getattr(rng, name))
        for module in users:
            if hasattr(module, name):
                setattr(module, name, diverted)


def _diverted(torch: Any, crypten: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a drawing function that takes a `Source` too; CrypTen's own takes what is none, outside of a world alone."""
    cpu = torch.device("cpu")

    def draw(size: int | Sequence[int], *arguments: Any, generator: Any = None, **options: Any) -> Any:
        local = crypten.generators["local"].get(cpu)
        source = local if generator is None else generator
        if not isinstance(source, Source):
            if isinstance(local, Source):
                raise UsageError(
                    "CrypTen asked a generator of torch's for a mask; here streams make all of them"
                )
            return original(size, *arguments, generator=generator, **options)
        bits = options.pop("bitlength", None) or _WORD_BITS
        device = options.pop("device", None)
        if arguments or options or (device is not None and torch.device(device) != cpu):
            raise UsageError(
                f"CrypTen draws words on the processor here, not {arguments} {options} on {device}"
            )
        return source.draw(size, bits)

    return draw
