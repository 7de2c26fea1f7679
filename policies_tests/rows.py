"""Valid rows for every table: one factory per table, and a table without one fails the tests.

A factory makes a row of a business that passes every constraint. `token` makes it different from
other rows of the business; the same token in two businesses gives the same natural values, which
must be no conflict. Columns that clients may not set stand here as well, for roles that may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from .people import EMPTY, NEWCOMER, Business, fixed_id

Row = dict[str, Any]


@dataclass
class Tenant:
    """A business in the world and the rows that others of its rows point to, by table."""

    business: Business
    ids: dict[str, UUID] = field(default_factory=dict)

    @property
    def id(self) -> UUID:
        return self.business.id


def _number(token: str) -> int:
    return int.from_bytes(hashlib.sha256(token.encode()).digest()[:4], "big") % 900 + 100


def _place_number(tenant: Tenant, token: str) -> int:
    """Another number for each business and token."""
    return int.from_bytes(hashlib.sha256(f"{tenant.id} {token}".encode()).digest()[:4], "big")


def _phone(token: str) -> str:
    return f"+1415555{_number(token):04d}"


def _newcomer() -> UUID:
    assert NEWCOMER.user_id is not None
    return NEWCOMER.user_id


def _organization(tenant: Tenant, token: str) -> Row:
    return {"name": f"Organization {token}", "slug": f"slug-{token}"}


def _organization_membership(tenant: Tenant, token: str) -> Row:
    return {"organization_id": tenant.business.organization.id, "user_id": _newcomer()}


def _placement(tenant: Tenant, token: str) -> Row:
    return {"organization_id": EMPTY.id, "schema_name": "public"}


def _plan(tenant: Tenant, token: str) -> Row:
    return {"code": f"plan-{token}", "name": "Plan", "limits": Jsonb({})}


def _subscription(tenant: Tenant, token: str) -> Row:
    return {"organization_id": EMPTY.id, "plan_id": fixed_id("plan")}


def _business(tenant: Tenant, token: str) -> Row:
    return {
        "organization_id": tenant.business.organization.id,
        "name": f"Business {token}",
        "slug": f"slug-{token}",
        "country": "US",
        "currency": "USD",
    }


def _role(tenant: Tenant, token: str) -> Row:
    return {"business_id": tenant.id, "code": f"role_{token}", "name": "Role", "rank": 50}


def _role_permission(tenant: Tenant, token: str) -> Row:
    code = {"hub": "channels.read", "leaf": "metrics.read", "new": "calls.read"}
    return {
        "role_id": tenant.ids["roles"],
        "permission_code": code.get(token, "customers.read"),
    }


def _membership(tenant: Tenant, token: str) -> Row:
    return {"business_id": tenant.id, "user_id": _newcomer()}


def _membership_role(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "membership_id": tenant.ids["business_memberships"],
        "role_id": tenant.ids["roles"],
    }


def _invitation(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "email_normalized": f"{token}@invited.example",
        "role_id": tenant.ids["roles"],
    }


def _connection(tenant: Tenant, token: str) -> Row:
    reference = hashlib.sha256(token.encode()).hexdigest()[:32]
    return {
        "business_id": tenant.id,
        "provider": "twilio",
        "account_ref": f"AC{reference}",
        "name": "Twilio",
    }


def _customer(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "first_name": "Ana",
        "last_name": token,
        "source": "test",
        "metric_date": "2026-01-15",
    }


def _contact_point(tenant: Tenant, token: str) -> Row:
    address = f"{token}@customer.example"
    return {
        "business_id": tenant.id,
        "customer_id": tenant.ids["customers"],
        "kind": "email",
        "raw": address,
        "normalized": address,
    }


def _channel(tenant: Tenant, token: str) -> Row:
    address = f"{token}@desk.example"
    return {
        "business_id": tenant.id,
        "kind": "email",
        "name": "Desk",
        "address": address,
        "address_normalized": address,
    }


def _conversation(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "channel_id": tenant.ids["channels"],
        "customer_id": tenant.ids["customers"],
        "peer": f"{token}@customer.example",
        "metric_date": "2026-01-15",
    }


def _message(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "conversation_id": tenant.ids["conversations"],
        "channel_id": tenant.ids["channels"],
        "direction": "inbound",
        "sender_kind": "customer",
        "body": f"Hello {token}",
        "provider_message_id": token,
        "metric_date": "2026-01-15",
    }


def _call(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "customer_id": tenant.ids["customers"],
        "direction": "inbound",
        "peer": _phone(token),
        "from_address": _phone(token),
        "to_address": "+14155550100",
        "provider_call_id": token,
        "metric_date": "2026-01-15",
    }


def _transcript(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "call_id": tenant.ids["calls"],
        "provider_transcript_id": token,
        "text": "Hello",
    }


def _webhook_event(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "connection_id": tenant.ids["provider_connections"],
        "provider": "twilio",
        "provider_event_id": token,
        "kind": "test",
        "payload": Jsonb({}),
        "events": Jsonb([]),
        "status": "failed" if token == "leaf" else "received",
    }


def _audit_log(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "actor_role": "postgres",
        "event_type": "insert",
        "resource": f"resource {token}",
    }


def _status_history(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "table_name": "calls",
        "row_id": tenant.ids["calls"],
        "machine": "calls.status",
        "to_status": "completed",
    }


def _metric(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "metric_date": "2026-01-15",
        "metric": f"metric {token}",
        "slot": 0,
        "value": 3,
    }


def _department(tenant: Tenant, token: str) -> Row:
    return {"business_id": tenant.id, "name": f"Department {token}", "kind": "it"}


def _department_role(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "department_id": tenant.ids["departments"],
        "membership_id": tenant.ids["business_memberships"],
        "role_id": tenant.ids["empty role" if token == "new" else "roles"],
    }


def _inheritance(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "parent_role_id": tenant.ids["roles"],
        "child_role_id": tenant.ids["other role" if token == "new" else "empty role"],
    }


def _single_permission(tenant: Tenant, token: str) -> Row:
    codes = {"hub": "channels.read", "leaf": "business.read", "new": "members.read"}
    codes |= {"alphaone": "calls.read", "betaone": "calls.write"}
    return {
        "business_id": tenant.id,
        "membership_id": tenant.ids["business_memberships"],
        "permission_code": codes.get(token, "metrics.read"),
        "effect": "allow",
    }


def _access_list(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "resource": "customers",
        "resource_id": fixed_id(f"record {token}"),
        "membership_id": tenant.ids["business_memberships"],
        "verbs": ["read"],
    }


def _api_key(tenant: Tenant, token: str) -> Row:
    return {
        "business_id": tenant.id,
        "membership_id": tenant.ids["business_memberships"],
        "name": f"Key {token}",
        "prefix": "tnk_00000000",
        "scopes": ["channels.read"],
    }


FACTORIES: dict[str, Callable[[Tenant, str], Row]] = {
    "public.organizations": _organization,
    "public.organization_memberships": _organization_membership,
    "public.organization_placements": _placement,
    "public.placement_databases": lambda tenant, token: {"name": f"shelf_{token}", "kind": "shelf"},
    "public.placement_moves": lambda tenant, token: {
        "organization_id": tenant.business.organization.id, "from_isolation": "pooled",
        "from_database": token, "from_schema": "public", "to_isolation": "schema",
        "to_database": "shelf", "to_schema": token, "state": "done",
    },
    "public.fleet_jobs": lambda tenant, token: {"kind": "backup"},
    "public.subscription_plans": _plan,
    "public.subscriptions": _subscription,
    "public.businesses": _business,
    "public.migration_targets": lambda tenant, token: {
        "target": f"shelf/{token}", "kind": "shelf", "database_name": token, "state": "current",
    },
    "private.compatibility": lambda tenant, token: {"compatible_from": "0", "only_row": True},
    "public.profiles": lambda tenant, token: {"user_id": _newcomer(), "full_name": token},
    "public.permissions": lambda tenant, token: {"code": f"test.{token}", "description": "Test."},
    "public.roles": _role,
    "public.role_permissions": _role_permission,
    "public.departments": _department,
    "public.department_roles": _department_role,
    "public.role_hierarchies": _inheritance,
    "public.permission_templates": lambda tenant, token: {
        "business_id": tenant.id, "code": f"template_{token}", "name": "Template",
        "permissions": Jsonb({"channels.read": "business"}),
    },
    "public.user_permissions": _single_permission,
    "public.access_control_lists": _access_list,
    "public.api_keys": _api_key,
    "public.business_domains": lambda tenant, token: {
        "business_id": tenant.id, "host": f"{token}.domain.example", "audience": "clients",
        "verification_token": token,
    },
    "public.business_memberships": _membership,
    "public.membership_roles": _membership_role,
    "public.invitations": _invitation,
    "public.provider_connections": _connection,
    "public.status_transitions": lambda tenant, token: {
        "machine": "test", "from_status": token, "to_status": f"after {token}",
    },
    "public.customers": _customer,
    "public.contact_points": _contact_point,
    "public.channels": _channel,
    "public.conversations": _conversation,
    "public.messages": _message,
    "public.calls": _call,
    "public.call_transcripts": _transcript,
    "public.webhook_events": _webhook_event,
    "public.audit_logs": _audit_log,
    "public.status_history": _status_history,
    "public.daily_metric_slots": _metric,
    "public.erasures": lambda tenant, token: {
        "business_id": tenant.id, "resource": "customers",
        "resource_id": fixed_id(f"erased {token}"),
    },
    "public.customer_counts": lambda tenant, token: {"business_id": tenant.id, "customers": 2},
    "public.idempotency_keys": lambda tenant, token: {
        "business_id": tenant.id, "key": token, "request_hash": b"0", "result": Jsonb({}),
    },
    "public.import_batches": lambda tenant, token: {
        "business_id": tenant.id, "kind": "customers", "file_name": token, "expected_rows": 1,
        "in_parts": False,
    },
    "public.import_rows": lambda tenant, token: {
        "business_id": tenant.id, "batch_id": tenant.ids["import_batches"], "fingerprint": token,
        "line": {"hub": 1, "own": 2, "leaf": 3}.get(token, 4), "data": Jsonb({}),
    },
    "public.customer_import_keys": lambda tenant, token: {
        "business_id": tenant.id, "source": "test", "key": token, "fingerprint": token,
        "customer_id": tenant.ids["customers"],
    },
    "private.invitation_tokens": lambda tenant, token: {
        "business_id": tenant.id, "invitation_id": tenant.ids["invitations"],
        "token_hash": hashlib.sha256(f"{tenant.id} {token}".encode()).digest(),
    },
    "private.revocations": lambda tenant, token: {
        "resource": token, "row_key": Jsonb({}), "outcome": "deleted",
    },
    "private.api_key_secrets": lambda tenant, token: {
        "business_id": tenant.id, "api_key_id": tenant.ids["api_keys"],
        "key_hash": hashlib.sha256(f"key of {tenant.id} {token}".encode()).digest(),
    },
    "private.revoked_sessions": lambda tenant, token: {
        "session_id": fixed_id(f"session {token}"), "user_id": _newcomer(),
    },
    "private.table_permissions": lambda tenant, token: {
        "table_name": token, "verb": "select", "permission_code": "customers.read",
    },
    "private.tenant_tables": lambda tenant, token: {"table_name": token},
    "private.registry_tables": lambda tenant, token: {
        "position": {"hub": 1, "own": 2, "leaf": 3}.get(token, 4), "table_name": token,
        "belongs": "true",
    },
    "private.registry_places": lambda tenant, token: {
        "organization_id": tenant.business.organization.id, "database_name": f"x_{token}",
    },
    "private.received_registries": lambda tenant, token: {
        "organization_id": fixed_id(f"registry {token}"), "version": 1,
    },
    "private.placement_version": lambda tenant, token: {"version": 1, "only_row": True},
    "private.record_permissions": lambda tenant, token: {
        "resource": token, "verb": "read", "permission_code": "customers.read",
    },
    "private.provider_secrets": lambda tenant, token: {
        "business_id": tenant.id, "connection_id": tenant.ids["provider_connections"],
        "position": 2 if token == "leaf" else 1, "secret": f"secret {token}",
    },
    "private.business_directory": lambda tenant, token: {
        "business_id": fixed_id(token), "organization_id": tenant.business.organization.id,
        "database_name": "x", "schema_name": "public", "is_readable": True, "is_writable": True,
        "timezone": "UTC", "country": "US",
    },
    "private.user_access": lambda tenant, token: {
        "user_id": fixed_id(token), "permission": "customers.read", "home_database": "x",
        "home_schema": "public", "business_ids": [tenant.id],
    },
    "private.user_organization_access": lambda tenant, token: {
        "user_id": fixed_id(token), "permission": "organization.read",
        "organization_ids": [tenant.business.organization.id],
    },
    "private.query_counters": lambda tenant, token: {
        "role_id": 10, "query_id": _place_number(tenant, token), "calls": 1, "total_ms": 1,
        "max_ms": 1, "row_count": 1,
    },
    "private.query_sampling": lambda tenant, token: {"sampled_at": "2026-01-01T00:00Z"},
    "private.query_samples": lambda tenant, token: {
        "since": "2026-01-01T00:00Z", "taken_at": "2026-01-01T00:01Z", "schema_name": "public",
        "query_id": 1, "query": token, "calls": 1, "total_ms": 1, "max_ms": 1,
        "is_max_exact": True, "row_count": 1,
    },
    "private.capacity_samples": lambda tenant, token: {
        "taken_on": date.fromordinal(_place_number(tenant, token) % 700_000 + 1).isoformat(),
        "organization_id": tenant.business.organization.id, "schema_name": "public",
        "size_bytes": 1, "row_count": 1,
    },
    "private.performance_benchmarks": lambda tenant, token: {
        "run_id": fixed_id(f"run {tenant.id} {token}"), "name": "test", "role": "postgres",
        "with_rls": False, "schema_name": "public", "row_count": 1, "executions": 1, "p50_ms": 1,
        "p95_ms": 2, "plan_hash": token, "server_version": "18",
    },
    "private.maintenance_tasks": lambda tenant, token: {
        "task": f"task {tenant.business.name} {token}", "schedule": "daily",
        "runs_in": "database", "description": "Test",
    },
    "private.maintenance_runs": lambda tenant, token: {"task": "vacuum_tables"},
    "private.phone_regions": lambda tenant, token: {
        "calling_code": 0, "region": "ZZ", "is_main": False, "lengths": [7],
        "local_lengths": [], "general_numbers": "{}",
    },
    "private.phone_ranges": lambda tenant, token: {
        "calling_code": 0, "first_number": 1, "last_number": 2, "region": "ZZ",
    },
    "private.phone_formats": lambda tenant, token: {
        "calling_code": 0, "position": 1, "pattern": "x",
    },
    "private.character_classes": lambda tenant, token: {"class": token, "characters": "{}"},
    "private.character_folds": lambda tenant, token: {
        "fold": token, "from_characters": "a", "to_characters": "b",
    },
}  # fmt: skip
