"""What server and nodes agree on before a sum, and the round of the masked protocol that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from secagg import wire
from secagg.errors import PlanError, UsageError
from secagg.federated.bounded import Bounded, BoundedCoder, BoundedTerms
from secagg.federated.compressed import CompressedCoder
from secagg.federated.encrypted import EncryptedTerms, Encryption
from secagg.federated.identities import SERVER
from secagg.federated.layout import Coder, Layout
from secagg.federated.shared_key import SharedKey, SharedKeyTerms
from secagg.federated.weighted import Encoding, WeightedCoder
from secagg.party import PartyId
from secagg.protocols.masked_sum import GraphParameters, Roles, SumInSession, Terms, choose
from secagg.protocols.threat_model import ThreatModel, is_malicious, largest_part
from secagg.signing import digest
from secagg.updates.privacy import Privacy

TRAIN, EVALUATE = "train", "evaluate"  # kinds of sums
LABEL: Final = "secagg.federated"
NONCE_BYTES: Final = 32
# A malicious server draws its own number when it has seen all others. So it can choose among as many graphs as it has time
# for. Each bit of choice costs one of security.
_GRINDING_BITS: Final = 64.0
_log = logging.getLogger("secagg.federated")


@dataclass(frozen=True, slots=True)
class Protection:
    """Against whom updates are protected; the same at all nodes and the server, and each node insists on its own.

    Args:
      max_corrupt: largest fraction of nodes that work with the server. If it is semi-honest, a fraction of those that take
        part. A malicious server chooses who takes part, so then it is a fraction of all in the file of public keys.
      max_dropout: largest fraction of those that finished their training that may drop out afterwards.
      threat_model: "semi-honest" if the server keeps to the protocol, "malicious" if it may do anything. Against a malicious
        server nodes are in one sum only if all were asked for the same: with one model, under one configuration.
      min_clients: of how many nodes a sum is made at least.
      security_bits: secrecy fails with probability 2**-security_bits at most, over the graph.
      privacy: what the sums of training may tell about one node; None for sums without noise. Its `max_corrupt`
        counts as the one above does, and the larger of the two is what noise is for.
      evaluation_privacy: the same for evaluation, a budget of its own. Evaluation without noise beside training with
        noise would tell what the noise hides: nodes refuse it.
      encryption: under one node's key, in place of masks; None for these. max_corrupt and max_dropout then only say how
        many nodes a sum is of.
      shared_key: encryption under a key of several nodes, in place of masks; likewise.
      bounded: a bound on updates that nodes check on shares, in place of masks in training; evaluation is under masks.
        Updates that are refused count as dropouts.

    Raises:
      UsageError: a fraction below 0, or 1 and more, min_clients below 2, or an unknown threat model; encryption with a
        malicious server, with noise, or with the server as key holder; a bound with noise; two in place of masks.
    """

    max_corrupt: float = 1 / 3
    max_dropout: float = 1 / 3
    threat_model: ThreatModel = "semi-honest"
    min_clients: int = 3
    security_bits: float = 40.0
    privacy: Privacy | None = None
    evaluation_privacy: Privacy | None = None
    encryption: Encryption | None = None
    shared_key: SharedKey | None = None
    bounded: Bounded | None = None

    def __post_init__(self) -> None:
        is_malicious(self.threat_model)  # refuses what is none
        if not (0 <= self.max_corrupt < 1 and 0 <= self.max_dropout < 1 and self.min_clients >= 2):
            raise UsageError(
                f"expected fractions from 0 to below 1 and at least 2 nodes in a sum, got {self}"
            )
        in_place = {"encryption": self.encryption, "shared_key": self.shared_key, "bounded": self.bounded}
        if len(given := [name for name, value in in_place.items() if value is not None]) > 1:
            raise UsageError(f"expected one of {' and '.join(given)} in place of masks; leave the others out")
        noisy = self.privacy is not None or self.evaluation_privacy is not None
        if self.bounded is not None and noisy:
            raise UsageError(
                "noise has no bound, and would be refused as an update that is out of bounds; leave privacy or bounded out"
            )
        if self.encryption is None and self.shared_key is None:
            return
        if self.is_malicious:
            raise UsageError(
                "encryption is for a server that keeps to the protocol: another has one node's ciphertext decrypted in "
                "place of the sum; leave encryption out, so that masks protect"
            )
        if noisy:
            raise UsageError(
                "noise is added modulo 2^b, in which masks compute and encryption does not; leave privacy or encryption out"
            )
        if self.encryption is not None and self.encryption.key_holder == SERVER:
            raise UsageError(
                "the server must not hold the key: it has all ciphertexts; name a node as key_holder"
            )

    @property
    def is_malicious(self) -> bool:
        """Whether the server may do anything."""
        return is_malicious(self.threat_model)

    @property
    def evaluates(self) -> bool:
        """Whether nodes take part in evaluation."""
        return self.privacy is None or self.evaluation_privacy is not None

    def privacy_of(self, kind: str) -> Privacy | None:
        """Return what sums of a kind may tell; None for sums without noise."""
        return self.privacy if kind == TRAIN else self.evaluation_privacy

    def relays(self, kind: str) -> bool:
        """Whether nodes compute sums of a kind together, through letters that the server carries."""
        return self.shared_key is not None or (self.bounded is not None and kind == TRAIN)

    def computing(
        self, kind: str, nodes: Collection[PartyId], failures: Mapping[PartyId, int]
    ) -> tuple[PartyId, ...]:
        """Return who computes a sum that nodes compute together; nobody in others.

        Args:
          kind: of the sum.
          nodes: who takes part.
          failures: how many sums could not be computed because of each. Who has fewest comes first.
        """
        setting = self.bounded if kind == TRAIN and self.bounded is not None else self.shared_key
        return () if setting is None else setting.chosen(nodes, failures)

    def sums_differences(self, kind: str) -> bool:
        """Whether sums of a kind are of updates within a norm, all of the same weight, in place of whole replies."""
        return self.privacy_of(kind) is not None or (self.bounded is not None and kind == TRAIN)

    def check_encoding(self, encoding: Encoding) -> None:
        """Refuse compression where numbers have a grid of their own, and memory where the server may do anything.

        Raises:
          UsageError: as told.
        """
        if encoding.compression is not None and (self.sums_differences(TRAIN) or self.evaluation_privacy):
            raise UsageError(
                "the numbers of sums with noise, or within a bound that is checked, have a grid of their own; leave "
                "compression out of Encoding"
            )
        if encoding.compression is not None and encoding.compression.error_feedback and self.is_malicious:
            raise UsageError(
                "with error feedback a reply depends on earlier tasks, which a server that may do anything need not have "
                "sent to all alike; leave error_feedback out of Compression"
            )

    def check_names(self, peers: Collection[PartyId]) -> None:
        """Refuse names that are no node's, and a `min_clients` that all nodes together do not reach.

        Raises:
          UsageError: as told.
        """
        named: dict[str, tuple[PartyId, ...]] = {}
        if self.encryption is not None:
            named["key_holder"] = (self.encryption.key_holder,)
        if self.shared_key is not None:
            named["key_holders"] = self.shared_key.key_holders
        if self.bounded is not None:
            named["computing"] = self.bounded.computing
        for what, names in named.items():
            if strangers := [name for name in names if name not in peers]:
                raise UsageError(
                    f"expected names of the file of public keys as {what}, got {_some(strangers)}; its names are "
                    f"{_some(peers)}"
                )
        if self.min_clients > len(peers):
            raise UsageError(
                f"no sum has {self.min_clients} nodes, as min_clients asks for: the file of public keys has {len(peers)}"
            )

    def check_packages(self) -> None:
        """Refuse where noise or encryption is asked for and its packages are missing.

        Raises:
          ImportError: one is not installed; the message says which.
        """
        if self.encryption is not None:
            self.encryption.check_package()
        if self.privacy or self.evaluation_privacy:
            import secagg.dp  # noqa: F401  # whoever adds no noise does without its packages

    def parameters(self, clients: int, registered: int) -> GraphParameters:
        """Return graph and thresholds for a sum of so many clients of those registered.

        Raises:
          UsageError: fewer than 2.
          PlanError: too few for this protection.
        """
        if clients < 2:
            raise UsageError(f"expected at least 2 clients in a sum, got {clients}")
        corrupt, bits = self.max_corrupt, self.security_bits
        if self.is_malicious:
            worst = largest_part(self.max_corrupt, registered)
            if worst >= clients:
                raise PlanError(
                    f"{worst} of {registered} registered clients may work with the server, and only {clients} take part; "
                    "let more take part"
                )
            corrupt, bits = worst / clients, bits + _GRINDING_BITS
        parameters = choose(
            clients,
            max_corrupt=corrupt,
            max_dropout=self.max_dropout,
            threat_model=self.threat_model,
            security_bits=bits,
        )
        if parameters.min_clients < self.min_clients:
            raise PlanError(
                f"of {clients} clients {parameters.min_clients} are sure to stay, and no sum of fewer than "
                f"{self.min_clients} is allowed; let more take part, or allow fewer dropouts"
            )
        return parameters


@dataclass(frozen=True, slots=True)
class Agreement:
    """Everything public that a sum is bound to.

    Args:
      run: the framework's number of the run.
      kind: what is summed up: "train" or "evaluate".
      task: the message of that name as it was sent.
      layout: canonical.
      task_digest: of what the app was asked if the server is malicious, else empty. It could send one node a model, and the
        others one of which it knows what they make: the mean would show the one's update [PFA22].
      setting: a digest of what the server chooses of the app's surroundings if it is malicious, else empty.
      names, nonces: who takes part, and the fresh number of each, 32 bytes.
      server_nonce: the server's, 32 bytes, drawn when all others were there. While the server keeps to the protocol no
        node, not even the last to answer, has a choice among sessions, and so among graphs.
      budgets: with noise, the `budget.History` of each; else empty. A node counts on those of others only
        where this is what they showed.
      computing: in sums that nodes compute together, those without whom nothing is opened, as the server chose them among
        those of the setting; else empty.
    """

    run: int
    kind: str
    task: bytes = field(repr=False)
    task_digest: bytes = field(repr=False)
    setting: bytes = field(repr=False)
    layout: Layout = field(repr=False)
    names: tuple[PartyId, ...]
    nonces: tuple[bytes, ...] = field(repr=False)
    server_nonce: bytes = field(repr=False)
    budgets: tuple[bytes, ...] = field(default=(), repr=False)
    computing: tuple[PartyId, ...] = ()

    def round(
        self,
        peers: Mapping[PartyId, bytes],
        protection: Protection,
        encoding: Encoding,
        weight_key: str = "weight",
        *,
        log: logging.Logger = _log,
    ) -> tuple[SumInSession, Coder]:
        """Return the round of the masked protocol, and how numbers are written in it.

        Args:
          peers: public keys by name.
          protection, encoding, weight_key: of the task.
          log: where coders write what they cannot tell the server.

        Raises:
          UsageError: a client without a public key, or two of one name.
          PlanError: too few clients for the protection, or sums that fit no ring.
        """
        if unknown := [name for name in self.names if name not in peers]:
            raise UsageError(
                f"there is no public key of {', '.join(map(repr, unknown[:5]))} in this party's file of public keys"
            )
        protection.check_encoding(encoding)
        identities = tuple(peers[name] for name in self.names)
        parameters = protection.parameters(len(self.names), len(peers))
        session = self._session()
        privacy = protection.privacy_of(self.kind)
        if protection.bounded is not None and self.kind == TRAIN:
            coder: Coder = BoundedCoder(self.layout, protection.bounded, len(self.names), log=log)
        elif privacy is None and encoding.compression is not None and self.kind == TRAIN:
            coder = CompressedCoder(
                self.layout,
                encoding,
                encoding.compression,
                len(self.names),
                session=session,
                weight_key=weight_key,
                log=log,
            )
        elif privacy is None:
            coder = WeightedCoder(self.layout, encoding, len(self.names), weight_key=weight_key, log=log)
        else:
            from secagg.federated.private import PrivateCoder  # needs secagg[dp]

            coder = PrivateCoder(
                self.layout, privacy, parameters, registered=len(peers), session=session, log=log
            )
        terms = Terms(
            Roles(self.names, (SERVER,), (SERVER,)), identities, coder.length, coder.ring, parameters
        )
        return SumInSession(terms, session), coder

    def encrypted(self, where: SumInSession, coder: Coder, encryption: Encryption) -> EncryptedTerms:
        """Return what is agreed on for a sum under encryption.

        Raises:
          TooFewPartiesError: the key holder does not take part.
        """
        least = where.terms.parameters.min_clients
        return EncryptedTerms(encryption, self.names, coder.ring, coder.length, least, where.context)

    def relayed(
        self, where: SumInSession, coder: Coder, protection: Protection
    ) -> BoundedTerms | SharedKeyTerms:
        """Return what is agreed on for a sum that nodes compute together.

        Raises:
          TooFewPartiesError: too few of those that compute take part.
          RemoteProtocolError: others compute than the setting names, or in another order.
          UsageError: sums of this kind are not computed so.
        """
        least, identities = where.terms.parameters.min_clients, where.terms.identities
        if isinstance(coder, BoundedCoder) and protection.bounded is not None:
            return BoundedTerms(
                protection.bounded, self.names, self.computing, coder.bounds, least, where.context
            )
        if protection.shared_key is None:
            raise UsageError("this sum is under masks")
        key, ring, length = protection.shared_key, coder.ring, coder.length
        return SharedKeyTerms(key, self.names, self.computing, identities, ring, length, least, where.context)

    def _session(self) -> bytes:
        # Every honest client's fresh number is in it: no session comes again, whatever the server does.
        parts = [
            self.run.to_bytes(8, "big"),
            self.kind.encode(),
            self.task,
            self.task_digest,
            self.setting,
            wire.to_bytes(self.layout),
            len(self.names).to_bytes(8, "big"),
        ]
        parts += [*_encoded(self.names), *self.nonces, self.server_nonce, *self.budgets]
        parts += [len(self.computing).to_bytes(8, "big"), *_encoded(self.computing)]
        return digest(f"{LABEL}/session", parts)


def ready_parts(
    run: int,
    kind: str,
    nonce: bytes,
    layout: bytes,
    setting: bytes,
    budget: bytes = b"",
    seen: Mapping[PartyId, bytes] | None = None,
) -> list[bytes]:
    """Return what a node signs when it is ready: that it keeps an update of this layout in this run, and its budget."""
    parts = [run.to_bytes(8, "big"), kind.encode(), nonce, layout, setting, budget]
    for name, shown in sorted((seen or {}).items()):
        parts += [name.encode(), shown]
    return parts


def _some(names: Collection[PartyId]) -> str:
    return ", ".join([*(f"{name!r:.80}" for name in list(names)[:5]), *(["..."] if len(names) > 5 else [])])


def _encoded(names: Sequence[PartyId]) -> list[bytes]:
    return [name.encode() for name in names]
