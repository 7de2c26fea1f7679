"""Where organizations live: for operators, on a server, with the secret key."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from tenantry._async.resource import AsyncResource, check_id
from tenantry._reply import columns_of
from tenantry.errors import FleetJobFailed, FleetJobUnfinished, NotFound
from tenantry.models import FleetJob, Isolation

#: Seconds between two looks at a job: the first, and the longest.
_FIRST_LOOK = 0.5
_LONGEST_LOOK = 5.0


class AsyncFleet(AsyncResource):
    """Jobs of the operator's worker. Everybody but the secret key gets PermissionDenied."""

    _in_business = False

    async def provision(
        self,
        *,
        name: str,
        owner_email: str,
        isolation: Isolation = "pooled",
        business_name: str | None = None,
        timezone: str | None = None,
        country: str | None = None,
        slug: str | None = None,
        requested_by: str | None = None,
    ) -> FleetJob:
        """Ask for an organization with one business, owned by somebody who has an account.

        It has no idempotency key: after a TransportError with `maybe_applied`, look first.

        Args:
            isolation: `pooled`, `schema` or `database`.
            business_name: As the organization by default.
            timezone: IANA name; `UTC` by default.
            country: ISO 3166-1 alpha-2; `US` by default.
            slug: Short name of the organization, unique; made from the name by default.
            requested_by: Who asked, for the record.

        Raises:
            ValidationError: Naming the field.
            NotFound: Nobody has an account with this address.
        """
        arguments = {
            "name": name, "owner_email": owner_email, "isolation": isolation,
            "business_name": business_name, "timezone": timezone, "country": country,
            "slug": slug, "requested_by": requested_by,
        }  # fmt: skip
        reply = await self._call("provision_business", arguments, returns=FleetJob)
        return reply.one(FleetJob)

    async def move(
        self, business_id: UUID | str, isolation: Isolation, *, requested_by: str | None = None
    ) -> FleetJob:
        """Ask for another placement of the organization of a business, with all its businesses.

        Raises:
            ValidationError: `isolation` is none.
            NotFound: There is no such business.
        """
        arguments = {
            "business_id": check_id(business_id, "business_id"),
            "isolation": isolation, "requested_by": requested_by,
        }  # fmt: skip
        reply = await self._call("move_business", arguments, returns=FleetJob)
        return reply.one(FleetJob)

    async def job(self, job_id: UUID | str) -> FleetJob:
        """How a job stands. Raises NotFound."""
        query = self._table("fleet_jobs").select(columns_of(FleetJob))
        reply = await self._send(query.eq("id", check_id(job_id, "job_id")))
        rows = reply.many(FleetJob)
        if not rows:
            raise NotFound(
                f"There is no job {job_id}.",
                status=404, code="PT404", hint="Check job_id.", request_id=reply.request_id,
                details={"field": "job_id", "reason": "not_found"},
            )  # fmt: skip
        return rows[0]

    async def wait(self, job: FleetJob | UUID | str, *, within: float = 300.0) -> FleetJob:
        """The job when it is done.

        Args:
            within: Seconds until you give up; the job goes on.

        Raises:
            FleetJobFailed: With the worker's reason.
            FleetJobUnfinished: It is not done in time.
        """
        job_id = job.id if isinstance(job, FleetJob) else check_id(job, "job_id")
        end = time.monotonic() + within
        pause = _FIRST_LOOK
        while True:
            now = await self.job(job_id)
            if now.state == "done":
                return now
            if now.state == "failed":
                raise FleetJobFailed(now.error or "The job failed.", job_id=job_id)
            if time.monotonic() + pause > end:
                raise FleetJobUnfinished(f"The job is {now.state}.", job_id=job_id)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_LOOK)
