"""Migrations of the fleet: asks the operator's worker for them, and waits a while for its answer.

This function has no right to change a schema: it puts a job into the line (request_fleet_job) and
reads its row.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tenantry_functions import Context, FunctionError, edge

_ROLLBACK = re.compile(r"rollback(?:/([0-9]{1,20}))?")
_JOB = re.compile(r"jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OPTIONS: dict[str, dict[str, type]] = {
    "migrate_up": {"tenant": str, "dry_run": bool, "workers": int},
    "migrate_rollback": {"tenant": str, "dry_run": bool, "workers": int, "to": str, "steps": int},
}
_LONGEST_WAIT_SECONDS = 50.0
_PAUSE_SECONDS = 0.25
_COLUMNS = "target,kind,organization_id,version,state,error,attempts,updated_at"


@edge(auth="secret", methods=("GET", "POST"))
async def handler(ctx: Context, request: Request) -> Response:
    if request.method == "GET":
        if job := _JOB.fullmatch(ctx.path):
            return _answer(await _read_job(ctx, job[1]))
        if ctx.path == "status":
            return await _status(ctx)
        raise _unknown("GET status or GET jobs/<id>")
    seconds = _seconds(request)
    if ctx.path == "run":
        kind, arguments = "migrate_up", _options(ctx, "migrate_up")
    elif rollback := _ROLLBACK.fullmatch(ctx.path):
        kind, arguments = "migrate_rollback", _options(ctx, "migrate_rollback")
        if rollback[1]:
            arguments["version"] = rollback[1]
    elif ctx.path == "status":
        # With catalogs compared and ledgers read, which takes a visit to every place.
        kind, arguments = "migrate_status", {}
    else:
        raise _unknown("POST run, POST status or POST rollback/<version>")
    job = await ctx.rest.rpc(
        "request_fleet_job", kind=kind, arguments=arguments, requested_by="admin-migrations"
    )
    return _answer(await _wait(ctx, job, seconds))


async def _status(ctx: Context) -> Response:
    """What the last run left behind: rows of the main database, without visiting anybody."""
    rows = await ctx.rest.select(
        "migration_targets", select=_COLUMNS, kind="neq.reference", order="target"
    )
    states = [row["state"] for row in rows]
    counts = {state: states.count(state) for state in ("current", "behind", "failed")}
    jobs = await ctx.rest.select(
        "fleet_jobs",
        select="id,kind,state,created_at,started_at,finished_at,error",
        kind="in.(migrate_up,migrate_rollback)",
        order="created_at.desc",
        limit="1",
    )
    return _json({"counts": counts, "targets": rows, "last_job": jobs[0] if jobs else None})


async def _wait(ctx: Context, job: dict[str, Any], seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while job["state"] in ("queued", "running") and time.monotonic() < until:
        await asyncio.sleep(_PAUSE_SECONDS)
        job = await _read_job(ctx, job["id"])
    return job


async def _read_job(ctx: Context, job_id: str) -> dict[str, Any]:
    rows = await ctx.rest.select("fleet_jobs", id=f"eq.{job_id}", kind="like.migrate_*")
    if not rows:
        raise FunctionError(404, "not_found", "There is no such job of migrations.")
    job: dict[str, Any] = rows[0]
    return job


def _answer(job: dict[str, Any]) -> Response:
    said = {name: job.get(name) for name in ("id", "kind", "state", "progress", "result", "error")}
    if job["state"] == "done":
        return _json(said)
    if job["state"] == "failed":
        # Refused by what it found, such as a later migration: the request conflicts with the state.
        return _json(said, 409)
    return _json(said, 202, {"Retry-After": "2"})


def _json(
    content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    # The API's fractions are Decimal; seconds need not be exact.
    text = json.dumps(content, default=float)
    return Response(text, status, headers, media_type="application/json")


def _options(ctx: Context, kind: str) -> dict[str, Any]:
    given = ctx.json() if ctx.body else {}
    if not isinstance(given, dict):
        raise FunctionError(400, "bad_body", "Send a JSON object, or nothing.")
    known = _OPTIONS[kind]
    for name, value in given.items():
        if name not in known or type(value) is not known[name]:
            listed = ", ".join(f"{one} ({wanted.__name__})" for one, wanted in known.items())
            raise FunctionError(
                400, "bad_option", f"{name} is not right: use {listed}.", field=name
            )
    if "tenant" in given and not _UUID.fullmatch(given["tenant"]):
        raise FunctionError(
            400, "bad_option", "tenant must be the id of an organization.", field="tenant"
        )
    return given


def _seconds(request: Request) -> float:
    text = request.query_params.get("wait", "20")
    if not re.fullmatch(r"[0-9]{1,2}", text) or float(text) > _LONGEST_WAIT_SECONDS:
        raise FunctionError(
            400, "bad_wait", f"wait must be 0 to {_LONGEST_WAIT_SECONDS:g} seconds.", field="wait"
        )
    return float(text)


def _unknown(known: str) -> FunctionError:
    return FunctionError(404, "not_found", f"There is no such path; use {known}.")
