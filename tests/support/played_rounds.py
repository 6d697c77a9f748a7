"""Rounds of frameworks whose models are arrays by name, in which the caller carries the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secagg.errors import RemoteProtocolError, SecaggError
from secagg.federated import Encoding, OwnNode, Protection, make_identities
from secagg.federated.keeper import Keeper
from secagg.federated.replies import baseline_of, digest_of, result_of, shapes_of
from secagg.federated.sum_server import SumServer, SumUnderWay

NAMES = tuple("abcde")
SENT = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array([100])}
PROTECTION = Protection(max_corrupt=0.2, max_dropout=0.4)


class Played:
    """A server and its nodes; `lost` says at which step a node stops answering."""

    def __init__(
        self, folder: Path, protection: Protection = PROTECTION, encoding: Encoding | None = None
    ) -> None:
        if not (folder / "peers.toml").exists():
            make_identities(folder, NAMES)
        self.folder, self.protection = folder, protection
        self.server = SumServer(folder / "peers.toml", protection, encoding)
        self.keepers = {name: self.keeper(name) for name in NAMES}
        self.frames: list[bytes] = []
        self.exchanges: list[str] = []  # steps of the last round after the task
        self.change: Callable[[str, str, bytes], bytes] = lambda _step, _name, frame: frame

    def keeper(self, name: str) -> Keeper:
        return Keeper(OwnNode.load(self.folder / f"{name}.key", self.folder / "peers.toml"), self.protection)

    def errors_of(self, name: str) -> list[SecaggError]:
        """Return a list of what a node raises from now on as it answers."""
        found: list[SecaggError] = []
        answer = self.keepers[name].answer

        def noting(step: str, frame: bytes) -> bytes:
            try:
                return answer(step, frame)
            except SecaggError as error:
                found.append(error)
                raise

        self.keepers[name].answer = noting  # type: ignore[method-assign]
        return found

    def update(self, name: str) -> dict[str, Any]:
        rng = np.random.default_rng(ord(name))
        return {
            "w": (SENT["w"] + rng.normal(size=(2, 3))).astype(np.float32),
            "steps": SENT["steps"] + ord(name),
        }

    def begin(self, run: int, kind: str, *, task_digest: bytes = b"") -> SumUnderWay:
        return self.server.begin(run, kind, shapes_of(SENT), baseline_of(SENT), task_digest=task_digest)

    def round(self, lost: Mapping[str, str] = {}, *, kind: str = "train", run: int = 3, **keep: Any) -> Any:
        digest = digest_of("task", SENT)
        self.exchanges.clear()
        current = self.begin(run, kind, task_digest=digest)
        for number, (name, keeper) in enumerate(self.keepers.items()):
            keeper.invite(run, kind, self.server.frame, SENT, task_digest=digest)
            if lost.get(name) == "task":
                continue
            arrays = self.update(name) if kind == "train" else {}
            ready = keeper.keep(arrays, number + 1, {"loss": float(number)}, **keep)
            self.frames.append(ready)
            assert current.take(f"at {name}", ready)

        def ask(step: str, frames: Mapping[str, bytes]) -> Iterator[tuple[str, bytes | RemoteProtocolError]]:
            self.exchanges.append(step)
            for address, frame in frames.items():
                name = address.removeprefix("at ")
                if lost.get(name) == step:
                    continue
                try:
                    answer = self.keepers[name].answer(step, self.change(step, name, frame))
                except SecaggError as error:
                    yield address, RemoteProtocolError(error.for_peers(), peer=address)
                    continue
                self.frames.append(answer)
                yield address, answer

        opened = current.finish(1, ask)
        return opened and result_of(opened.layout, opened.means.values, opened.means.weight)
