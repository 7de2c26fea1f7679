"""What an operator does with a tenant between its first and its last day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from tenantry_cli.fleet import provision
from tenantry_cli.fleet.fleet import Fleet, FleetError, Home, Tenant
from tenantry_cli.fleet.mover import Move, businesses_of, resume_move, unfinished_move
from tenantry_cli.fleet.registry import send_due
from tenantry_cli.fleet.rows import as_they_are, count_rows, remove_rows, tables_at

#: Saves a tenant before it is dropped; returns where.
Save = Callable[[Tenant], str]


def suspend(fleet: Fleet, key: str | UUID) -> Tenant:
    """Close a tenant to its members, everywhere and at once; nothing is removed."""
    return _set_status(fleet, key, "suspended")


def resume(fleet: Fleet, key: str | UUID) -> Tenant | Move:
    """Open a suspended or archived tenant again, or take up what was interrupted."""
    tenant = fleet.tenant(key)
    if unfinished_move(fleet, tenant.id) is not None:
        return resume_move(fleet, tenant.id)
    if tenant.state in ("provisioning", "failed"):
        return provision.finish_provisioning(fleet, tenant.id)
    if tenant.state in ("archived", "read_only"):
        with fleet.session() as main:
            provision.set_state(main, tenant.id, "active")
    return _set_status(fleet, key, "active")


def archive(fleet: Fleet, key: str | UUID) -> Tenant:
    """Put a tenant away: its rows stay where they are and nobody reaches them."""
    tenant = fleet.tenant(key)
    if tenant.state not in ("active", "archived"):
        raise FleetError(
            f"{tenant.slug} is in state {tenant.state}: only an active one is archived"
        )
    with fleet.session() as main:
        provision.set_state(main, tenant.id, "archived")
    send_due(fleet)
    return fleet.tenant(tenant.id)


@dataclass(frozen=True)
class DropPlan:
    """What dropping a tenant would remove."""

    tenant: Tenant
    rows: int
    members: int

    def lines(self) -> list[str]:
        """The plan in words."""
        home = self.tenant.home
        place = {
            "pooled": f"its rows in {home.database}",
            "schema": f"the schema {home.schema} in {home.database}",
            "database": f"the database {home.database}",
        }[home.isolation]
        return [
            f"organization {self.tenant.name} ({self.tenant.slug}, {self.tenant.id})",
            f"{self.tenant.businesses} businesses with {self.members} memberships",
            f"{self.rows} rows of {self.tenant.businesses} businesses: {place}",
        ]


def plan_drop(fleet: Fleet, key: str | UUID) -> DropPlan:
    """Count what dropping a tenant would remove. Changes nothing."""
    tenant = fleet.tenant(key)
    with fleet.session() as main:
        row = main.execute(
            "select count(*) as members from public.business_memberships m "
            "join public.businesses b on b.id = m.business_id where b.organization_id = %s",
            (tenant.id,),
        ).fetchone()
        businesses = businesses_of(fleet, tenant.id)
    rows = 0
    if tenant.state not in ("provisioning", "failed"):
        with fleet.session(tenant.home.database) as place, place.transaction():
            for table in tables_at(place, tenant.home):
                rows += count_rows(place, table, businesses)
    return DropPlan(tenant, rows, row["members"] if row else 0)


def drop(fleet: Fleet, key: str | UUID, save: Save) -> str:
    """Save a tenant, then remove its rows, its home and itself; returns where it was saved.

    Raises FleetError, and removes nothing, where it cannot be saved.
    """
    tenant = fleet.tenant(key)
    if unfinished_move(fleet, tenant.id) is not None:
        raise FleetError(f"{tenant.slug} is being moved: `tenantry tenant resume` first")
    saved = save(tenant)
    with fleet.session() as main:
        if tenant.state == "active":
            provision.set_state(main, tenant.id, "archived")
    send_due(fleet)
    for home in _homes_of(fleet, tenant):
        if home.isolation != "pooled":
            provision.drop_home(fleet, tenant.id, home)
    with fleet.session() as main:
        pooled = provision.new_home(fleet, tenant.id, "pooled")
        with as_they_are(main):
            remove_rows(main, tables_at(main, pooled), businesses_of(fleet, tenant.id))
        main.execute("delete from public.organizations where id = %s", (tenant.id,))
    return saved


def _homes_of(fleet: Fleet, tenant: Tenant) -> set[Home]:
    """Its home, and old ones whose rows are still kept."""
    with fleet.session() as main:
        rows = main.execute(
            "select from_isolation, from_database, from_schema from public.placement_moves "
            "where organization_id = %s and state = 'done' and cleaned_at is null",
            (tenant.id,),
        )
        old = {
            Home(row["from_isolation"], row["from_database"], row["from_schema"]) for row in rows
        }
    return {tenant.home, *old}


def _set_status(fleet: Fleet, key: str | UUID, status: str) -> Tenant:
    tenant = fleet.tenant(key)
    if tenant.status == "closed":
        raise FleetError(f"{tenant.slug} is closed for good")
    with fleet.session() as main:
        main.execute(
            "update public.organizations set status = %s where id = %s and status <> %s",
            (status, tenant.id, status),
        )
    send_due(fleet)
    return fleet.tenant(tenant.id)
