"""Sites and a server played by hand, message by message: python by_hand.py KEYS; prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import ContentBlockedException, FilterChainType, FilterContextKey
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import ReservedHeaderKey, make_reply
from nvflare.apis.workspace import Workspace
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.private.fed.app.fl_conf import create_privacy_manager

from secagg.errors import RemoteProtocolError
from secagg.integrations.nvflare import SecureAggregator, SecureFilter, messages

KEYS = sys.argv[1]
SITES = [f"site-{i}" for i in range(1, 6)]
MODEL = {"w": np.arange(4, dtype=np.float32)}
ACTIVE = {"max_corrupt": 0.2, "max_dropout": 0.2, "threat_model": "malicious"}
FEW = {"clips": {"": 4.0}, "max_weight": 2, "compression": {"bits": 12}}
BOUNDED = {**ACTIVE, "bounded": {"computing": SITES[:3], "norm": 10.0}}


class Engine:
    def __init__(self):
        self.handlers, self.contexts, self.adding = {}, {}, None

    def register_aux_message_handler(self, topic, handler):
        self.handlers[self.adding] = handler

    def send_aux_request(self, targets, topic, request, timeout, fl_ctx, optional=False):
        (site,) = targets
        return {site: self.handlers[site](topic=topic, request=request, fl_ctx=self.contexts[site])}


class Site:
    def __init__(self, name, engine, protection=ACTIVE):
        self.name, self.engine = name, engine
        self.contexts = FLContextManager(engine, name, "job", {}, {})
        engine.contexts[name] = self.contexts.new_context()
        self.chains = {}
        for chain in (FilterChainType.TASK_DATA_CHAIN, FilterChainType.TASK_RESULT_CHAIN):
            made = SecureFilter(f"{KEYS}/{{site}}.key", f"{KEYS}/peers.toml", protection)
            made.set_prop(FilterContextKey.CHAIN_TYPE, chain)
            self.chains[chain] = made
        self.seen = None

    def asked(self, task):
        self.engine.adding = self.name
        self.seen = self.chains[FilterChainType.TASK_DATA_CHAIN].process(task, self.contexts.new_context())
        return self.seen

    def replies(self, result):
        return self.chains[FilterChainType.TASK_RESULT_CHAIN].process(result, self.contexts.new_context())


def task_of(model, number=0):
    task = DXO(DataKind.WEIGHTS, data=model).to_shareable()
    task.set_header(ReservedHeaderKey.TASK_NAME, "train")
    task.set_header(AppConstants.CURRENT_ROUND, number)
    task.set_header(AppConstants.NUM_ROUNDS, 3)
    return task


def result_of(model, weight=2, kind=DataKind.WEIGHTS):
    return DXO(kind, data=model, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: weight}).to_shareable()


def blocked(action):
    try:
        action()
    except ContentBlockedException as error:
        return str(error)
    return None


def refused_reply(reply):
    try:
        messages.open_reply(reply, "keys", "site-1")
    except RemoteProtocolError as error:
        return [str(error), error.peer]
    return None


class Server:
    def __init__(self, engine, protection=ACTIVE, encoding=None):
        self.contexts = FLContextManager(engine, "server", "job", {}, {})
        self.aggregator = SecureAggregator(f"{KEYS}/peers.toml", protection, encoding)

    def task(self, number=0):
        task, fl_ctx = task_of(dict(MODEL), number), self.contexts.new_context()
        fl_ctx.set_prop(AppConstants.TRAIN_SHAREABLE, task, private=True, sticky=False)
        self.aggregator.handle_event(AppEventType.BEFORE_TRAIN_TASK, fl_ctx)
        return task

    def accept(self, site, reply):
        fl_ctx, peer = self.contexts.new_context(), FLContext()
        peer.set_prop("__identity_name__", site, private=False, sticky=False)
        fl_ctx.set_peer_context(peer)
        return self.aggregator.accept(reply, fl_ctx)

    def aggregate(self):
        result = from_shareable(self.aggregator.aggregate(self.contexts.new_context()))
        report = self.aggregator.reports[-1]
        means = {name: value.tolist() for name, value in result.data.items()}
        return {
            "kind": result.data_kind,
            "means": means,
            "error": report.error,
            "contributors": report.contributors,
            "missed": dict(report.missed),
            "failure": report.failure,
        }


def played(tamper=None, protection=ACTIVE, kind=DataKind.WEIGHTS, encoding=None):
    """Play one round; `tamper` alters the server's task for one site."""
    engine = Engine()
    server = Server(engine, protection, encoding)
    for i, name in enumerate(SITES):
        site, task = Site(name, engine, protection), server.task()
        if tamper and name == "site-1":
            tamper(task)
        seen = site.asked(task)
        assert seen.get_header(messages.HEADER) is None
        update = {"w": from_shareable(seen).data["w"] + np.float32(i)}
        if kind == DataKind.WEIGHT_DIFF:
            update = {"w": np.full(4, i, np.float32)}
        reply = site.replies(result_of(update, 2, kind))
        assert not [key for key in reply if key != ReservedHeaderKey.HEADERS]
        server.accept(name, reply)
    return server.aggregate()


def late():
    """Reply, ask and end while the server waits for a site in the middle of a sum; say what came of each at once."""
    engine = Engine()
    server = Server(engine)
    for i, name in enumerate(SITES[:4]):
        site = Site(name, engine)
        update = {"w": from_shareable(site.asked(server.task())).data["w"] + np.float32(i)}
        server.accept(name, site.replies(result_of(update)))
    late_site = Site(SITES[4], engine)
    late_site.asked(server.task())
    reply = late_site.replies(result_of(MODEL))
    said, send, seen = dict[str, object](), engine.send_aux_request, list[object]()

    def slow(targets, *rest, **more):
        if not seen:  # the first request of the sum, in a thread of its own
            seen.append(targets)
            pool = ThreadPoolExecutor(1)
            waiting = pool.submit(server.accept, SITES[4], reply)
            try:
                said["accepted"] = waiting.result(20)
            except TimeoutError:
                said["accepted"] = "kept waiting"
            pool.shutdown(wait=False)
        return send(targets, *rest, **more)

    engine.send_aux_request = slow  # type: ignore[method-assign]
    return {**server.aggregate(), **said}


def all_asked_at_once(sites=80):
    """Ask many sites of which none answers before all were asked; return whether it went on."""
    barrier = threading.Barrier(sites)
    aggregator = Server(Engine()).aggregator

    def request(site, _, __):
        barrier.wait(20)
        return messages.pack("keys", site.encode())

    aggregator._request = request  # type: ignore[method-assign]
    answers = dict(aggregator._ask(None, "keys", {f"site-{i}": b"" for i in range(sites)}))
    return sorted(answers) == sorted(f"site-{i}" for i in range(sites))


def other_model(task):
    task["DXO"]["data"] = {"w": MODEL["w"] + np.float32(1)}


def other_round(task):
    task.set_header(AppConstants.NUM_ROUNDS, 4)


def site_filters(page):
    """Return what NVFlare makes of the privacy.json on a page: names of chains and of the scope that is the default."""
    snippet = next(part for part in Path(page).read_text().split("```json")[1:] if "scopes" in part)
    text = snippet.split("```")[0].replace("/etc/secagg/hospital-a.key", f"{KEYS}/site-1.key")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("local", "startup"):
            Path(folder, name).mkdir()
        Path(folder, "local", "privacy.json").write_text(text)
        Path(folder, "startup", "fed_client.json").write_text("{}")
        manager = create_privacy_manager(Workspace(folder, "site-1"), names_only=False)
    scope = manager.get_scope(None)
    chains = [scope.task_data_filters["in"], scope.task_result_filters["out"]]
    return [scope.name, *(type(f).__name__ for chain in chains for f in chain)]


def main():
    engine = Engine()
    server, site = Server(engine), Site("site-1", engine)
    found = {
        "plain": played(),
        "differences": played(kind=DataKind.WEIGHT_DIFF),
        "bounded": played(protection=BOUNDED),
        "few bits": played(encoding=FEW),
        "few bits, differences": played(encoding=FEW, kind=DataKind.WEIGHT_DIFF),
        "late": late(),
        "all at once": all_asked_at_once(),
        "another model": played(tamper=other_model),
        "another round": played(tamper=other_round),
        "no terms": blocked(lambda: site.asked(task_of(MODEL))),
        "no task": blocked(lambda: Site("site-2", engine).replies(result_of(MODEL))),
        "another protection": blocked(
            lambda: site.asked(Server(engine, {**ACTIVE, "threat_model": "semi-honest"}).task())
        ),
    }
    site.asked(server.task())
    found["metrics"] = blocked(lambda: site.replies(DXO(DataKind.METRICS, data={"a": 1.0}).to_shareable()))
    site.asked(server.task(1))
    failed = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    failed["update"] = MODEL["w"]
    reply = site.replies(failed)
    found["error with data"] = [reply.get_return_code(), sorted(reply)]
    site.asked(server.task(2))
    found["no weight"] = blocked(lambda: site.replies(DXO(DataKind.WEIGHTS, data=dict(MODEL)).to_shareable()))
    site.asked(server.task(3))
    reply = site.replies(result_of(MODEL))
    found["replied twice"] = blocked(lambda: site.replies(result_of(MODEL)))
    found["out of turn"] = engine.handlers["site-1"](
        topic="secagg", request=messages.pack("unmask", b""), fl_ctx=None
    )["reason"]
    found["afterwards"] = engine.handlers["site-1"](
        topic="secagg", request=messages.pack("keys", b""), fl_ctx=None
    )["reason"]
    found["replies"] = [
        refused_reply(reply)
        for reply in (
            messages.pack("input", b"x"),
            messages.refusal("no key"),
            None,
            make_reply(ReturnCode.OK),
        )
    ]
    found["run"] = messages.run_number("job")
    said = messages.rounds_said("train", task_of(MODEL, 2))
    found["digest"] = messages.task_digest(MODEL, DataKind.WEIGHTS, said).hex()
    found["page"] = site_filters(sys.argv[2])
    sys.stdout.write(json.dumps(found))


main()
