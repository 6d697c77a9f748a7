"""Changes that somebody might make by mistake and that would publish secrets or weaken what the pages claim.

Each says what it would do; `python tests/mutants --hand-made` shows that a test notices it.
"""

from __future__ import annotations

from typing import Final

from change import Change
from hand_made_core import CORE
from hand_made_encryption import ENCRYPTION
from hand_made_joint import JOINT
from hand_made_queries import QUERIES
from hand_made_shards import SHARDS
from hand_made_sums import SUMS
from hand_made_tables import TABLES

_THREE: Final = "secagg/mpc/three"
_GROUP_BY: Final = "secagg/protocols/group_by"
_VIEWS: Final = ("tests/mpc/three/test_transcripts.py",)
_RUNS: Final = ("tests/protocols/test_transcripts.py",)
_ENDINGS: Final = ("tests/protocols/test_endings.py",)
_KEYS: Final = ("tests/mpc/three/test_engine.py",)
_PSEUDONYMS: Final = ("tests/protocols/test_pseudonyms.py",)
_HELLO: Final = ("tests/network/test_hello.py",)
_PINNING: Final = ("tests/network/test_pinning.py",)
_NUMBERS: Final = ("tests/test_soundness_numbers.py",)

_FIRST: Final = (
    Change(
        "swaps of the merge go out unmasked",
        f"{_THREE}/conjunction.py",
        "                part ^= t\n                _add_zero_share(channel, part)\n",
        "",
        _VIEWS,
    ),
    Change(
        "both seeds of an outside input are equal: a bank's table in clear at two parties",
        f"{_THREE}/inputs.py",
        "seed0, seed1 = party.rng.bytes(KEY_BYTES), party.rng.bytes(KEY_BYTES)",
        "seed0 = seed1 = party.rng.bytes(KEY_BYTES)",
        _VIEWS,
    ),
    Change(
        "shuffle masks of 32 of 64 bits",
        "secagg/mpc/groups.py",
        "return stream.words(shape) if",
        "return stream.words(shape) & np.uint64(0xFFFFFFFF) if",
        _VIEWS,
    ),
    Change(
        "neighbours' values in the spare bits of opened rows",
        f"{_GROUP_BY}/engine.py",
        "flag.reshape(1, -1), opened, origins])",
        "flag.reshape(1, -1), opened, origins, joint[layout.key_planes :]])",
        _RUNS,
    ),
    Change(
        "the secret of a pair from one side's contribution alone",
        f"{_THREE}/channel.py",
        "        k_own = PairStreams(theirs[previous].contribution + mine[previous], context + bytes([i]))\n"
        "        k_next = PairStreams(mine[following] + theirs[following].contribution, context",
        "        k_own = PairStreams(theirs[previous].contribution * 2, context + bytes([i]))\n"
        "        k_next = PairStreams(mine[following] * 2, context",
        _KEYS,
    ),
    Change(
        "the hash key from the first bank alone",
        "secagg/protocols/pseudonyms.py",
        'secret = b"".join(parts[name] for name in announced)',
        "secret = parts[next(iter(announced))]",
        _PSEUDONYMS,
    ),
    Change(
        "the hash key does not depend on the session",
        "secagg/protocols/pseudonyms.py",
        "context=party.session)",
        "context=bytes(32))",
        _PSEUDONYMS,
    ),
    Change(
        "identity bits 40 in place of 60",
        f"{_GROUP_BY}/layout.py",
        "_IDENTITY_BITS: Final = 60",
        "_IDENTITY_BITS: Final = 40",
        _NUMBERS,
    ),
    Change(
        "72 compared bits in place of 80",
        f"{_GROUP_BY}/layout.py",
        "KEY_BITS: Final = 80",
        "KEY_BITS: Final = 72",
        _NUMBERS,
    ),
    Change(
        "buckets overflow once in 2^36 runs",
        "secagg/mpc/buckets.py",
        "OVERFLOW_BITS: Final = 40",
        "OVERFLOW_BITS: Final = 36",
        _NUMBERS,
    ),
    Change(
        "permutations sort keys of 16 fewer bits",
        "secagg/prg.py",
        "        words &= ~mask\n",
        "        words &= ~(mask | np.uint64(0xFFFF << index_bits))\n",
        ("tests/test_prg.py", *_NUMBERS),
    ),
    Change(
        "the streams of a pair do not depend on the session",
        f"{_THREE}/channel.py",
        'context = b"".join((party.session, len',
        'context = b"".join((bytes(32), len',
        _KEYS,
    ),
    Change(
        "the streams of a pair do not depend on the engine's label",
        f"{_THREE}/channel.py",
        'len(label.encode()).to_bytes(4, "big"), label.encode()))',
        "bytes(4)))",
        _KEYS,
    ),
    Change(
        "all streams of a pair are one",
        "secagg/mpc/streams.py",
        'label=f"{self.label}/{purpose}"',
        "label=self.label",
        _KEYS,
    ),
    Change(
        "ANDs are masked by what the receiver holds",
        f"{_THREE}/conjunction.py",
        "    channel.k_next[Purpose.AND].xor_into(words)\n",
        "    channel.k_next[Purpose.AND].xor_into(np.empty_like(words))\n",
        _VIEWS,
    ),
    Change(
        "thermometers go out unmasked",
        "secagg/mpc/three/comparison.py",
        "            k0.xor_into(part)\n",
        "            k0.words(part.shape)\n",
        _VIEWS,
    ),
    Change(
        "the padding's origin is not that of its list",
        f"{_GROUP_BY}/engine.py",
        "ONES if position >> b & 1 else 0 for b in range(query.origin_planes)",
        "0 for b in range(query.origin_planes)",
        _RUNS,
    ),
    Change(
        "lanes of a violation's bit that hold ORs of others are opened",
        "secagg/protocols/bounded_sum/check.py",
        "    return bits.each(lambda share: to_planes(share, 1)[0])",
        "    return bits.each(lambda share: to_planes(share, 2)[0] ^ to_planes(share, 2)[1] << np.uint64(32))",
        _RUNS,
    ),
    Change(
        "all pairs of clients have one mask",
        "secagg/protocols/masked_sum/keys.py",
        'return derive_key(agreed, label=f"{LABEL}/pair mask", context=where.context + pair)',
        'return derive_key(bytes(32), label=f"{LABEL}/pair mask", context=where.context)',
        _RUNS,
    ),
    Change(
        "the self mask is left out",
        "secagg/protocols/masked_sum/client.py",
        "        yield Mask(keys.self_seed(where, self._secrets.self_secret, me), minus=False)\n",
        "",
        _RUNS,
    ),
    Change(
        "sessions do not depend on where their parts end",
        "secagg/network/hello.py",
        '        digest.update(struct.pack("<Q", len(part)))\n',
        "",
        _HELLO,
    ),
    Change(
        "whoever has a certificate is taken for whom this party dialled",
        "secagg/network/pinning.py",
        "            if name is None or dialled not in (None, name):",
        "            if name is None:",
        _PINNING,
    ),
    Change(
        "resumed connections show no certificate",
        "secagg/network/pinning.py",
        "        self._listening.num_tickets = 0",
        "        self._listening.num_tickets = 2",
        _PINNING,
    ),
    Change(
        "TLS below 1.3",
        "secagg/network/pinning.py",
        "ssl.TLSVersion.TLSv1_3",
        "ssl.TLSVersion.TLSv1_2",
        _PINNING,
    ),
    Change(
        "flushing is switched off in the record of decryptions",
        "secagg/he/rlwe/decryption_log.py",
        "PRAGMA synchronous = EXTRA",
        "PRAGMA synchronous = OFF",
        ("tests/he/rlwe/test_decryption_log.py",),
    ),
    Change(
        "numbers in a sampler's tails come half as often",
        "secagg/dp/rejection.py",
        "size = 2 << (bin_.step_bits + heads)",
        "size = 1 << (bin_.step_bits + heads)",
        ("tests/dp/test_rejection.py",),
    ),
    Change(
        "the tails of a sampler's envelope weigh half of what they must",
        "secagg/dp/rejection.py",
        "is None else 2 << b.step_bits",
        "is None else 1 << b.step_bits",
        ("tests/dp/test_rejection.py",),
    ),
    Change(
        "labels are not counted before rows are opened",
        f"{_GROUP_BY}/engine.py",
        "if (np.count_nonzero(where, axis=1) != layout.buckets.capacities[position]).any():",
        "if False:",
        _ENDINGS,
    ),
    Change(
        "rows beyond a bucket's capacity are put in",
        f"{_GROUP_BY}/owner.py",
        "if np.max(filled, initial=0) > capacity:",
        "if np.max(filled, initial=0) > capacity + 1:",
        _ENDINGS,
    ),
    Change(
        "rows that cannot be told apart are put in",
        f"{_GROUP_BY}/owner.py",
        "if alike.any() or ",
        "if ",
        _ENDINGS,
    ),
    Change(
        "a row that cannot be told from padding is put in",
        f"{_GROUP_BY}/owner.py",
        "if alike.any() or (self._low & mask == mask).any():",
        "if alike.any():",
        _ENDINGS,
    ),
    Change(
        "sums of rows that are not flagged are opened",
        f"{_GROUP_BY}/engine.py",
        "return flag, await conjunction(flag, opened)",
        "return flag, opened",
        _RUNS,
    ),
)

HAND_MADE: Final = (*_FIRST, *CORE, *ENCRYPTION, *JOINT, *SUMS, *QUERIES, *SHARDS, *TABLES)
