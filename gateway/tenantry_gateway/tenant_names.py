"""Which tenant a request names: by header or by host. Names are keys to look up, nothing more."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tenantry_gateway.errors import GatewayError

DATABASE_HEADER = "x-agency-database"
TENANT_HEADER = "x-tenant"
AUDIENCES = frozenset({"public", "clients", "staff", "admin", "api"})

# The names that the registry itself gives: organization_placements, private.slug, ids.
_DATABASE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# RFC 1123, 2.1.
_HOST = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class TenantName:
    """One way a request names its tenant."""

    kind: str
    """As `resolve_tenant()` has it: database, tenant or host."""
    key: str
    field: str
    audience: str | None = None
    """Whom a host name under the base domain is for; a verified domain has its own."""
    required: bool = True
    """False for a foreign host, which may be the gateway's own."""


def names_of(
    headers: Mapping[str, str], base_domain: str, own_hosts: frozenset[str]
) -> list[TenantName]:
    """All names in a request's (lower-case) headers. Raises 400 for malformed ones."""
    names: list[TenantName] = []
    if (database := headers.get(DATABASE_HEADER)) is not None:
        names.append(
            TenantName("database", _checked(database, DATABASE_HEADER), "X-Agency-Database")
        )
    if (tenant := headers.get(TENANT_HEADER)) is not None:
        names.append(TenantName("tenant", _checked(tenant.lower(), TENANT_HEADER), "X-Tenant"))
    if (host := _host_name(headers.get("host", ""), base_domain, own_hosts)) is not None:
        names.append(host)
    return names


def _checked(value: str, header: str) -> str:
    pattern = _DATABASE if header == DATABASE_HEADER else _TENANT
    if not pattern.fullmatch(value):
        shown = "X-Agency-Database" if header == DATABASE_HEADER else "X-Tenant"
        raise GatewayError(
            400,
            "malformed_header",
            f"{shown} is not one name of a tenant",
            "Send the tenant's database name as it was given out."
            if header == DATABASE_HEADER
            else "Send the slug or the id of one organization, or the id of one business.",
            field=shown,
        )
    return value


def _host_name(value: str, base_domain: str, own_hosts: frozenset[str]) -> TenantName | None:
    host = _without_port(value.lower()).removesuffix(".")
    if host == base_domain or host in own_hosts or _is_address(host) or not _HOST.fullmatch(host):
        return None
    if not host.endswith("." + base_domain):
        # A single label is a name of the local network.
        return TenantName("host", host, "Host", required=False) if "." in host else None
    labels = host.removesuffix("." + base_domain).split(".")
    if len(labels) == 1:
        return TenantName("tenant", labels[0], "Host")
    if len(labels) == 2 and labels[0] in AUDIENCES:
        return TenantName("tenant", labels[1], "Host", audience=labels[0])
    return TenantName("host", host, "Host")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
