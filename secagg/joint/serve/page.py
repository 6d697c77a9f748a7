"""The web page of a party that serves, for people who do not type commands: no script, no other machine.

  /            jobs: what waits for approvals, what runs, what ended; a form to add a job file
  /jobs/FILE   what the job does, in plain words; a form to approve it with a key file and its password
  /runs/...    past runs, each with its report
  /budget      what is granted and spent
  /log         what happened

Who may ask is for `guard` to say. An approver's key and password come with the form, are used once, and kept nowhere.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from secagg.errors import SecaggError, UsageError
from secagg.files import write_file
from secagg.jobs.job_file import load_job
from secagg.joint.approval import approve
from secagg.joint.approval.approval import RUN, TEMPLATE
from secagg.joint.approval.keys import open_key
from secagg.joint.consortium import Consortium
from secagg.joint.report.contents import find_record, load_report
from secagg.joint.report.page import render
from secagg.joint.serve import views
from secagg.joint.serve.guard import COOKIE, HEADERS, SESSION_S, Guard, NotAllowedError
from secagg.joint.serve.supervisor import Supervisor
from secagg.network.identity import read_certificate
from secagg.printable import printable
from secagg.toml_files import parse_toml

_MOST_BYTES: Final = 1 << 20  # of a form
Handler = Callable[[Request], Awaitable[Response]]
_REPORT_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
)


class Page:
    """The page of one party.

    Args:
      supervisor: whose jobs these are.
      guard: who may ask.
    """

    def __init__(self, supervisor: Supervisor, guard: Guard) -> None:
        self._supervisor = supervisor
        self._guard = guard

    def app(self) -> Starlette:
        """Return the application."""
        inside = [
            ("/", self._jobs, "GET"),
            ("/jobs/{file}", self._job, "GET"),
            ("/jobs/{file}/approve", self._approve, "POST"),
            ("/jobs/{file}/again", self._again, "POST"),
            ("/add", self._add, "POST"),
            ("/runs", self._runs, "GET"),
            ("/runs/{name}/{stamp}", self._report, "GET"),
            ("/runs/{name}/{stamp}/{file}", self._result, "GET"),
            ("/budget", self._budget, "GET"),
            ("/log", self._log, "GET"),
            ("/leave", self._leave, "POST"),
        ]
        routes = [Route(path, self._inside(handler), methods=[method]) for path, handler, method in inside]
        routes += [
            Route("/enter", self._enter, methods=["GET", "POST"]),
            Route("/style.css", _style, methods=["GET"]),
        ]
        made = Starlette(routes=routes)
        made.add_middleware(BaseHTTPMiddleware, dispatch=self._guarded)
        return made

    async def _guarded(self, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            self._guard.check_host(request)
            response = await answer(request)
        except NotAllowedError as error:
            response = self._shown("refused.html", None, error.status, why=error.why)
        for name, value in HEADERS.items():
            if name not in response.headers:
                response.headers[name] = value
        return response

    def _inside(self, handler: Handler) -> Handler:
        """Let those in who have come in, and show them errors."""

        async def checked(request: Request) -> Response:
            session = self._guard.session(request)
            if session is None:
                if request.method == "POST":
                    raise NotAllowedError(403, "Come in again, and send the form once more.")
                return RedirectResponse("/enter", 303)
            request.state.session = session
            try:
                return await handler(request)
            except SecaggError as error:
                return self._shown("refused.html", session, 400, why=str(error))

        return checked

    def _shown(self, template: str, session: str | None, status: int = 200, **values: Any) -> HTMLResponse:
        supervisor = self._supervisor
        text = (
            _environment()
            .get_template(template)
            .render(me=supervisor.me, token=None if session is None else self._guard.token(session), **values)
        )
        return HTMLResponse(text, status)

    async def _form(self, request: Request) -> dict[str, str | bytes]:
        """Return a form of this page, its file as bytes."""
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MOST_BYTES:
            raise NotAllowedError(413, "That is too large.")
        async with request.form(max_files=1, max_fields=10, max_part_size=_MOST_BYTES) as form:
            self._guard.check_form(request, request.state.session, form)
            found: dict[str, str | bytes] = {}
            for name, value in form.items():
                found[name] = await value.read() if isinstance(value, UploadFile) else value
        return found

    # Coming in.

    async def _enter(self, request: Request) -> Response:
        guard = self._guard
        if request.method == "POST":
            guard.check_origin(request)
            async with request.form(max_files=0, max_fields=2) as form:
                given = str(form.get("password", ""))
        else:
            given = request.query_params.get("key", "") if guard.by_link else ""
        if not given:
            return self._shown("enter.html", None, by_link=guard.by_link)
        session = guard.come_in(given)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=not guard.by_link,
        )
        return response

    async def _leave(self, request: Request) -> Response:
        await self._form(request)
        self._guard.leave(request.state.session)
        return RedirectResponse("/enter", 303)

    # Jobs.

    async def _jobs(self, request: Request) -> Response:
        found = await run_in_threadpool(views.jobs, self._supervisor)
        return self._shown("jobs.html", request.state.session, jobs=found)

    async def _job(self, request: Request) -> Response:
        view = await run_in_threadpool(views.job, self._supervisor, request.path_params["file"])
        if view is None:
            raise NotAllowedError(404, "There is no such job.")
        return self._shown("job.html", request.state.session, job=view)

    async def _approve(self, request: Request) -> Response:
        form, file = await self._form(request), request.path_params["file"]
        key, password = form.get("key", b""), form.get("password", "")
        if not isinstance(key, bytes) or not key or not isinstance(password, str):
            raise UsageError("expected the file of your key, NAME.approver, and its password")

        def sign() -> str:
            supervisor = self._supervisor
            job = supervisor.job(file)
            if form.get("fingerprint") != job.digest.hex():
                raise UsageError(f"{file} was changed since you read it; read it again, and approve it then")
            opened = open_key(key, password)
            kind = RUN if form.get("kind") == RUN else TEMPLATE
            approve(job, Consortium.load(supervisor.home), opened, into=supervisor.home.approvals, kind=kind)
            return opened.name

        person = await run_in_threadpool(sign)
        self._supervisor.events.note("approved", job=file, person=person)
        return RedirectResponse(f"/jobs/{file}", 303)

    async def _again(self, request: Request) -> Response:
        await self._form(request)
        await run_in_threadpool(self._supervisor.again, request.path_params["file"])
        return RedirectResponse(f"/jobs/{request.path_params['file']}", 303)

    async def _add(self, request: Request) -> Response:
        form = await self._form(request)
        content = form.get("job", b"")
        if not isinstance(content, bytes) or not content:
            raise UsageError("expected a job file")
        file = await run_in_threadpool(self._kept, content)
        self._supervisor.events.note("added", job=file)
        return RedirectResponse("/", 303)

    def _kept(self, content: bytes) -> str:
        """Write a job file into the home, under the job's own name, and return that."""
        home = self._supervisor.home
        _check_whole(content)
        unread = home.jobs / ".added"
        unread.unlink(missing_ok=True)
        write_file(unread, content, mode=0o600)
        try:
            job = load_job(unread, known=Consortium.load(home).directory())
            job.check_takes_part(self._supervisor.me)
        finally:
            unread.unlink(missing_ok=True)
        file = f"{job.name}.toml"
        try:
            write_file(home.jobs / file, content, mode=0o600)
        except FileExistsError:
            raise UsageError(f"there is a job {job.name} already; give the new one another name") from None
        return file

    # Past runs, budgets, log.

    async def _runs(self, request: Request) -> Response:
        found = await run_in_threadpool(views.runs, self._supervisor)
        return self._shown("runs.html", request.state.session, runs=found)

    async def _report(self, request: Request) -> Response:
        params, home = request.path_params, self._supervisor.home
        folder = views.run_folder(self._supervisor, params["name"], params["stamp"])
        if folder is None:
            raise NotAllowedError(404, "There is no such run.")

        def made() -> str:
            log = home.audit_log if home.audit_log.is_file() else None
            own = read_certificate(home.keys / f"{self._supervisor.me}.crt")
            return render(load_report(find_record(folder), certificate=own, log=log, with_result=True))

        text = await run_in_threadpool(made)
        return HTMLResponse(text, headers={"Content-Security-Policy": _REPORT_POLICY})

    async def _result(self, request: Request) -> Response:
        params = request.path_params
        folder = views.run_folder(self._supervisor, params["name"], params["stamp"])
        file = params["file"]
        if (
            folder is None
            or not file.endswith(".csv")
            or file not in [path.name for path in folder.iterdir()]
        ):
            raise NotAllowedError(404, "There is no such file.")
        content = await run_in_threadpool((folder / file).read_bytes)
        return PlainTextResponse(
            content,
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{printable(file, 80)}"'},
        )

    async def _budget(self, request: Request) -> Response:
        found = await run_in_threadpool(views.budgets, self._supervisor)
        return self._shown("budget.html", request.state.session, lines=found)

    async def _log(self, request: Request) -> Response:
        return self._shown(
            "log.html", request.state.session, lines=list(reversed(self._supervisor.events.latest))
        )


def _check_whole(content: bytes) -> None:
    """Refuse a job file that names other files: who adds it here shall read none of this machine's.

    Raises:
      UsageError: it is no job file, or not whole.
    """
    try:
        plain = parse_toml(content.decode("utf-8"), file=Path("the job file"), kind=UsageError)
    except UnicodeDecodeError:
        raise UsageError("expected a job file in UTF-8") from None
    parties, rules = plain.get("parties", []), plain.get("rules", {})
    texts: dict[str, object] = {name: plain[name] for name in ("sql", "tables") if name in plain}
    texts |= {f"rules.{name}": text for name, text in (rules if isinstance(rules, dict) else {}).items()}
    texts |= {
        f"{party.get('name')}'s certificate": party["certificate"]
        for party in (parties if isinstance(parties, list) else [])
        if isinstance(party, dict) and "certificate" in party
    }
    named = [name for name, text in texts.items() if not (isinstance(text, str) and "\n" in text)]
    if named:
        raise UsageError(
            f"a job that is added here holds all texts itself; it names files for {', '.join(named)}. Ask its author for "
            "one with the texts in it, or have the files put into the folder jobs"
        )


async def _style(_request: Request) -> Response:
    return Response(_text("style.css"), media_type="text/css")


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            value if hasattr(value, "__html__") else printable("" if value is None else str(value))
        ),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(name: str) -> str:
    return (importlib.resources.files("secagg.joint.serve") / "templates" / name).read_text("utf-8")
