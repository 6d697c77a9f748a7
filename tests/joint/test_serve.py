"""A party that serves runs what is approved, goes on after a kill, and shows a page to whom it should alone.

The module is long because one consortium that serves is shared by its tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asgi import Client
from browser import browser, screenshot, set_width  # noqa: F401  # a fixture
from members import Members
from ports import reserved_ports
from secagg.cli.serve import _page
from secagg.errors import UsageError
from secagg.jobs.run import Progress
from secagg.joint.approval.keys import create_key
from secagg.joint.approval.policy import Policy
from secagg.joint.consortium import Needed, changes
from secagg.joint.serve.events import Events
from secagg.joint.serve.guard import SESSION_S, Guard
from secagg.joint.serve.metrics import Metrics
from secagg.joint.serve.page import Page
from secagg.joint.serve.states import Known, State
from secagg.joint.serve.supervisor import Supervisor
from secagg.joint.serve.turns import Schedule, first_in_turn
from served import DEPOSITS, JOB, events, found, kill, serving, state, wait_for
from words import holds_word

PASSWORD = "a long password"
HOST = "127.0.0.1:7480"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Members, list[int]]]:
    with reserved_ports(4) as ports:
        yield found(tmp_path_factory.mktemp("serve"), ports[:3]), ports


@pytest.fixture
def members(made: tuple[Members, list[int]], tmp_path: Path) -> Members:
    return made[0].copied(tmp_path)


@pytest.fixture
def supervisor(members: Members) -> Supervisor:
    return Supervisor(members.homes["north"], Events(None), Metrics())


@pytest.fixture
def client(supervisor: Supervisor) -> Client:
    guard = Guard(("127.0.0.1", 7480), "the key of the link", by_link=True)
    return Client(Page(supervisor, guard).app(), HOST)


def come_in(client: Client) -> str:
    """Come in by the link; return the token of forms."""
    assert client.get("/enter?key=the key of the link").status_code == 303
    return client.get("/").text.split('name="token" value="')[1].split('"')[0]


def propose(members: Members, name: str = "north", text: str = JOB) -> None:
    (members.homes[name].jobs / "large-cash.toml").write_text(text)


# States.


def test_a_job_is_proposed_until_enough_persons_approve_it(members: Members, supervisor: Supervisor) -> None:
    propose(members)
    supervisor.step()
    (known,) = supervisor.states.all()
    assert known.state is State.proposed
    assert "2 of 2 persons" in known.message
    members.approve(supervisor.job("large-cash.toml"), "north", "anna", "bert")
    begun: list[Known] = []
    supervisor._begin = begun.append  # type: ignore[method-assign, assignment]
    supervisor.step()
    assert [known.file for known in begun] == ["large-cash.toml"]


def test_a_job_whose_time_is_over_says_so_on_its_page(
    client: Client, supervisor: Supervisor, members: Members
) -> None:
    propose(members)
    members.approve(supervisor.job("large-cash.toml"), "north", "anna", "bert")
    supervisor._begin = lambda known: None  # type: ignore[method-assign]
    propose(members, text=JOB.replace("2999-12-31", "2020-12-31"))
    supervisor.step()
    come_in(client)
    told = client.get("/jobs/large-cash.toml").text
    assert "might run until" in told
    assert "is not approved by" not in told  # that stands with each kind of approval


def test_a_job_that_cannot_be_read_stops_no_other(members: Members, supervisor: Supervisor) -> None:
    propose(members)
    members.approve(supervisor.job("large-cash.toml"), "north", "anna", "bert")
    (members.homes["north"].jobs / "broken.toml").write_text("name = 3")
    begun: list[Known] = []
    supervisor._begin = begun.append  # type: ignore[method-assign, assignment]
    supervisor.step()
    found = {known.file: known.state for known in supervisor.states.all()}
    assert found["broken.toml"] is State.failed
    assert [known.file for known in begun] == ["large-cash.toml"]


@pytest.mark.parametrize(
    ("said", "code", "state"),
    [
        ({"error": "PeerVanishedError", "message": "south went"}, 1, State.approved),
        ({}, -9, State.approved),
        ({"error": "RefusedError", "message": "no budget"}, 1, State.refused),
        ({"error": "DataError", "message": "row of customer zoe is bad"}, 2, State.failed),
        ({}, 0, State.done),
    ],
)
def test_how_a_run_ends_says_what_becomes_of_its_job(
    supervisor: Supervisor, said: dict[str, Any], code: int, state: State
) -> None:
    class Ended:
        known = Known("j.toml", "00", State.running, 1.0)
        error = said
        stopping = False
        progress = None

    supervisor._ended(Ended(), code)  # type: ignore[arg-type]
    (known,) = supervisor.states.all()
    assert known.state is state
    assert (known.due > 0) == (state is State.approved)
    # What may name rows is shown to this party, and written nowhere.
    assert "zoe" not in known.message + json.dumps(list(supervisor.events.latest))


def test_all_parties_try_the_same_job_in_a_slot_and_each_job_has_its_turn() -> None:
    jobs = [f"{i:064x}" for i in range(4)]
    turns = [first_in_turn(jobs, at * 120.0) for at in range(200)]
    assert set(turns) == set(jobs)
    # A party with fewer jobs tries the first one of all, whenever it has it.
    assert all(
        first_in_turn(jobs[:2], at * 120.0) == turn for at, turn in enumerate(turns) if turn in jobs[:2]
    )
    assert first_in_turn([], 0.0) == ""


def test_a_schedule_says_when_a_job_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('[schedule]\ndaily = "every 24h"\nmonthly = "0 3 1 * *"\n')
    schedule = Schedule.load(path)
    assert schedule.next_after("daily", 10.0) == 86_400.0
    assert schedule.next_after("monthly", 0.0) == 3 * 3600.0
    assert schedule.next_after("other", 0.0) is None
    path.write_text('[schedule]\nx = "sometimes"\n')
    with pytest.raises(UsageError, match="expected five fields as cron has them"):
        Schedule.load(path)


def test_events_hold_known_fields_alone(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    Events(log).note("job", job="j\x1b[2J", state="done")
    assert log.stat().st_mode & 0o077 == 0
    assert "\x1b" not in log.read_text()
    with pytest.raises(ValueError, match="no field message"):
        Events(None).note("job", message="row of zoe")


def test_metrics_tell_how_far_a_run_is_and_who_is_waited_for() -> None:
    metrics = Metrics()
    metrics.progress("j", Progress("north", "merge", 0.5, 1234, ("south",), step=4))
    metrics.jobs([Known("j", "00", State.running, 1.0)])
    told = metrics.text().decode()
    assert 'secagg_run_share_done{job="j"} 0.5' in told
    assert 'secagg_run_waits_for{job="j",peer="south"} 1.0' in told
    assert 'secagg_jobs{state="running"} 1.0' in told


# Who may use the page.


def test_nobody_sees_the_page_without_the_key_or_under_another_host(client: Client) -> None:
    assert client.get("/").headers["location"] == "/enter"
    assert client.get("/log").status_code == 303
    assert client.get("/enter?key=wrong").status_code == 403
    assert client.get("/", headers={"host": "evil.example:7480"}).status_code == 421
    come_in(client)
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example:7480"}).status_code == 421
    assert "httponly" in client.attributes
    assert client.attributes["samesite"] == "strict"


def test_keys_that_are_tried_at_random_are_refused_for_a_while(client: Client) -> None:
    for _ in range(10):
        client.get("/enter?key=wrong")
    assert client.get("/enter?key=the key of the link").status_code == 429


def test_who_came_in_half_a_day_ago_comes_in_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    come_in(client)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + SESSION_S)
    monkeypatch.setattr("secagg.joint.serve.guard.time", later)
    assert client.get("/").headers["location"] == "/enter"
    monkeypatch.undo()
    assert client.get("/").status_code == 303  # and the session is gone for good


def test_where_others_reach_the_page_one_comes_in_by_a_password_and_no_link(supervisor: Supervisor) -> None:
    guard = Guard(("10.0.0.7", 443), PASSWORD, by_link=False, names=("mpc.bank.example",))
    client = Client(Page(supervisor, guard).app(), "mpc.bank.example")
    assert (
        client.get(f"/enter?key={PASSWORD}").status_code == 200
    )  # it asks, and takes no key from an address
    assert client.cookies == {}
    page = {"origin": "https://mpc.bank.example"}
    assert client.post("/enter", data={"password": "wrong"}, headers=page).status_code == 403
    elsewhere = {"origin": "https://evil.example"}
    assert client.post("/enter", data={"password": PASSWORD}, headers=elsewhere).status_code == 403
    assert client.post("/enter", data={"password": PASSWORD}, headers=page).status_code == 303
    assert "secure" in client.attributes
    assert client.get("/").status_code == 200


def test_a_form_counts_with_its_token_and_from_this_page_alone(client: Client, members: Members) -> None:
    token = come_in(client)
    files = {"job": ("j.toml", JOB.encode())}
    for data, headers in (
        ({}, {}),
        ({"token": "0" * 64}, {}),
        ({"token": token}, {"origin": "http://evil.example"}),
        ({"token": token}, {"origin": "null"}),
        ({"token": token}, {"sec-fetch-site": "cross-site"}),
    ):
        assert client.post("/add", data=data, files=files, headers=headers).status_code == 403
    assert not list(members.homes["north"].jobs.iterdir())
    added = client.post("/add", data={"token": token}, files=files, headers={"origin": f"http://{HOST}"})
    assert added.status_code == 303
    assert (members.homes["north"].jobs / "large-cash.toml").read_text() == JOB
    assert client.post("/leave", data={"token": token}).status_code in (303, 400, 413)


def test_every_answer_forbids_scripts_and_frames(client: Client) -> None:
    come_in(client)
    for path in ("/", "/enter", "/style.css", "/jobs/none.toml", "/runs/../../x"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "script-src" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/../keys",
        "/runs/%2e%2e/keys",
        "/runs/..%2f..%2fkeys/x",
        "/runs/keys/..%2f..",
        "/jobs/..%2fpolicy.toml",
    ],
)
def test_no_path_leads_out_of_the_home(client: Client, path: str) -> None:
    come_in(client)
    assert client.get(path).status_code in (400, 404)


def test_results_of_runs_are_given_and_no_file_of_another_folder(client: Client, members: Members) -> None:
    home = members.homes["north"]
    folder = home.runs / "large-cash" / "20260101T000000Z"
    folder.mkdir(parents=True)
    for place in (folder, home.keys):
        (place / "x.csv").write_text("a\n1\n")
    come_in(client)
    assert client.get("/runs/large-cash/20260101T000000Z/x.csv").status_code == 200
    assert client.get("/runs/../keys/x.csv").status_code == 404


def test_a_job_file_that_others_wrote_is_shown_as_text(client: Client, members: Members) -> None:
    token = come_in(client)
    text = JOB.replace('name = "large-cash"', 'name = "<script>"')
    answer = client.post("/add", data={"token": token}, files={"job": ("j.toml", text.encode())})
    assert answer.status_code == 400
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    "named", ['sql = "../keys/page.key"', 'tables = "/etc/passwd"', '[rules]\nnorth = "../policy.toml"']
)
def test_a_job_that_is_added_reads_no_file_of_this_machine(
    client: Client, members: Members, named: str
) -> None:
    token, text = come_in(client), JOB.replace('pattern = "structuring"', named)
    answer = client.post("/add", data={"token": token}, files={"job": ("j.toml", text.encode())})
    assert "holds all texts itself" in answer.text
    assert not list(members.homes["north"].jobs.iterdir())


def test_a_run_that_had_ended_while_nobody_looked_is_done_and_another_one_goes_on(
    supervisor: Supervisor, members: Members
) -> None:
    propose(members)
    supervisor.step()
    (known,) = supervisor.states.all()
    for outcome, becomes in (("failed", State.approved), ("complete", State.done)):
        folder = members.homes["north"].runs / "large-cash" / outcome
        folder.mkdir(parents=True)
        (folder / "north.large-cash.json").write_text(json.dumps({"outcome": outcome}))
        supervisor.states.put(replace(known, state=State.running, folder=f"large-cash/{outcome}"))
        supervisor._recover()
        assert supervisor.states.all()[0].state is becomes


@pytest.mark.slow
def test_a_wrong_password_and_a_job_that_changed_meanwhile_approve_nothing(
    client: Client, members: Members, supervisor: Supervisor, tmp_path: Path
) -> None:
    propose(members)
    supervisor.step()
    token = come_in(client)
    create_key(tmp_path / "anna.approver", "anna", PASSWORD)
    key = {"key": ("anna.approver", (tmp_path / "anna.approver").read_bytes())}
    fingerprint = supervisor.job("large-cash.toml").digest.hex()
    path = "/jobs/large-cash.toml/approve"
    wrong = client.post(
        path, data={"token": token, "password": "x" * 12, "fingerprint": fingerprint}, files=key
    )
    assert "the password does not open" in wrong.text
    old = client.post(path, data={"token": token, "password": PASSWORD, "fingerprint": "00"}, files=key)
    assert "was changed since you read it" in old.text
    stranger = client.post(
        path, data={"token": token, "password": PASSWORD, "fingerprint": fingerprint}, files=key
    )
    assert "is not that of an approver of north" in stranger.text
    assert not list(members.homes["north"].approvals.iterdir())


def test_a_page_that_others_can_reach_needs_a_password_and_tls(supervisor: Supervisor) -> None:
    with pytest.raises(UsageError, match="needs --password-file, --certificate and --key"):
        _page(supervisor, "0.0.0.0:7480", None, None, None, [])


# With processes.


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_newcomer_goes_from_a_proposed_job_to_its_report_in_the_browser_and_a_kill_changes_nothing(
    made: tuple[Members, list[int]],
    tmp_path: Path,
    browser: Any,  # noqa: F811
) -> None:
    members, ports = made
    keys = {}
    for person in ("dora", "emil"):
        keys[person] = create_key(tmp_path / f"{person}.approver", person, PASSWORD)
    known = {person: key.public_key for person, key in keys.items()}
    Policy(Needed(), known).save(members.homes["north"])
    changes.change(members.homes["north"], needed=Needed(), approvers=known)
    members.tell("north")
    for name in ("south", "west"):
        propose(members, name)
    members.approve(members.job(JOB, "south"), "south", "bert", "carl")
    job_file = tmp_path / "large-cash.toml"
    job_file.write_text(JOB)
    homes = {name: home.path for name, home in members.homes.items()}
    with (
        serving(homes["south"]),
        serving(homes["west"]) as (west, _),
        serving(homes["north"], f"127.0.0.1:{ports[3]}") as (_, link),
    ):
        wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
        find = lambda css: browser.find_element("css selector", css)  # noqa: E731
        browser.get(link)
        assert "no jobs yet" in browser.page_source
        find('input[name="job"]').send_keys(str(job_file))
        find('form[action="/add"] button').click()
        wait_for(members, "north", "proposed")
        browser.get(link.split("/enter")[0] + "/jobs/large-cash.toml")
        assert "What each party learns besides" in browser.page_source
        screenshot(browser, tmp_path / "job.png")
        # One of those who compute is killed while it waits, with its run, and comes again.
        wait_for(members, "west", "waiting")
        kill(west)
        for approved in ("dora", "dora, emil"):
            person = approved.split(", ")[-1]
            find('input[name="key"]').send_keys(str(tmp_path / f"{person}.approver"))
            find('input[name="password"]').send_keys(PASSWORD)
            find("form.approve button").click()
            # A click may return before the browser has begun to load the next page.
            wait(browser, 60).until(lambda b, text=approved: f"approved by {text}" in b.page_source)
        with serving(homes["west"]):
            wait_for(members, "north", "waiting", "running", "done")
            browser.get(link.split("/enter")[0] + "/")
            screenshot(browser, tmp_path / "jobs.png")
            for name in members.homes:
                wait_for(members, name, "done")
            browser.get(link.split("/enter")[0] + "/jobs/large-cash.toml")
            screenshot(browser, tmp_path / "done.png")
            find("a.button").click()
            assert "zoe" in browser.page_source
            screenshot(browser, tmp_path / "report.png")
            for page in ("runs", "budget", "log"):
                browser.get(f"{link.split('/enter')[0]}/{page}")
                screenshot(browser, tmp_path / f"{page}.png")
            set_width(browser, 390, phone=True)
            browser.get(link.split("/enter")[0] + "/jobs/large-cash.toml")
            screenshot(browser, tmp_path / "phone.png")
            set_width(browser, 1280)
    assert not [
        entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]
    ]
    result = next(members.homes["north"].runs.rglob("north.large-cash.csv")).read_text()
    assert result.splitlines()[1].startswith("zoe,2,1300.00")
    # Checkpoints are gone, and neither log nor state names a customer, an amount or a key.
    for name, path in homes.items():
        assert not list((path / "checkpoints").rglob("*.checkpoint"))
        told = json.dumps(events(members, name)) + repr(state(members, name))
        for secret in ("zoe", "yan", "xia", "600", "1300", PASSWORD, "PRIVATE KEY"):
            assert not holds_word(told, secret)
    assert len(DEPOSITS) == 2
