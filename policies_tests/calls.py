"""A valid call of every function that members may call, for any business."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from .people import ALPHA_ONE, UNKNOWN, Business
from .rows import Tenant
from .world import World

Arguments = dict[str, Any]


def call_text(name: str, arguments: Arguments, schema: str = "public") -> sql.Composable:
    """`select * from schema.name(argument => value, ...)`"""
    listed = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(argument), sql.Literal(value))
        for argument, value in arguments.items()
    )
    return sql.SQL("select * from {}({})").format(sql.Identifier(schema, name), listed)


def _business_calls(
    world: World,
) -> dict[str, Callable[[Tenant], Arguments]]:
    """Functions about one business. The rows they act on are those of the world."""

    def sample(table: str, business: Business) -> str:
        place = ALPHA_ONE if business == UNKNOWN else business
        row = world.row(f"public.{table}", world.sample(f"public.{table}", place))
        return str(row["id"])

    return {
        "create_business": lambda t: {
            "organization_id": t.business.organization.id, "name": "New", "country": "US",
        },
        "invite_member": lambda t: {
            "business_id": t.id, "email": "new@invited.example", "role": "nothing",
        },
        "revoke_invitation": lambda t: {
            "business_id": t.id, "invitation_id": sample("invitations", t.business),
        },
        "resend_invitation": lambda t: {
            "business_id": t.id, "invitation_id": sample("invitations", t.business),
        },
        "change_member_roles": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
            "roles": ["nothing"],
        },
        "remove_member": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
        },
        "suspend_member": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
        },
        "reactivate_member": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
        },
        "transfer_ownership": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
        },
        "create_role": lambda t: {"business_id": t.id, "code": "new_role", "name": "New"},
        "update_role": lambda t: {
            "business_id": t.id, "role_id": t.ids["roles"], "name": "Changed",
        },
        "delete_role": lambda t: {"business_id": t.id, "role_id": t.ids["roles"]},
        "create_department": lambda t: {"business_id": t.id, "name": "New", "kind": "it"},
        "update_department": lambda t: {
            "business_id": t.id, "department_id": t.ids["departments"], "name": "Changed",
        },
        "delete_department": lambda t: {
            "business_id": t.id, "department_id": t.ids["departments"],
        },
        "assign_department_role": lambda t: {
            "business_id": t.id, "department_id": t.ids["departments"],
            "membership_id": t.ids["business_memberships"], "role": "nothing",
        },
        "remove_department_role": lambda t: {
            "business_id": t.id, "department_id": t.ids["departments"],
            "membership_id": t.ids["business_memberships"], "role": "role_hub",
        },
        "set_member_permission": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
            "permission": "channels.read", "effect": "deny",
        },
        "clear_member_permission": lambda t: {
            "business_id": t.id, "membership_id": t.ids["business_memberships"],
            "permission": "channels.read",
        },
        "create_api_key": lambda t: {
            "business_id": t.id, "name": "New", "scopes": ["channels.read"],
        },
        "revoke_api_key": lambda t: {"business_id": t.id, "api_key_id": t.ids["api_keys"]},
        "set_mfa_requirement": lambda t: {
            "organization_id": t.business.organization.id, "required": False,
        },
        "add_domain": lambda t: {
            "business_id": t.id, "host": "new.domain.example", "audience": "staff",
        },
        "remove_domain": lambda t: {
            "business_id": t.id, "domain_id": t.ids["business_domains"],
        },
        "verify_domain": lambda t: {
            "business_id": t.id, "domain_id": t.ids["business_domains"],
        },
        "share_record": lambda t: {
            "business_id": t.id, "resource": "customers", "resource_id": t.ids["customers"],
            "verbs": ["read"], "membership_id": t.ids["business_memberships"],
        },
        "unshare_record": lambda t: {
            "business_id": t.id, "share_id": t.ids["access_control_lists"],
        },
        "invite_portal_customer": lambda t: {
            "business_id": t.id, "customer_id": t.ids["customers"],
            "email": "new@portal.example",
        },
        "connect_provider": lambda t: {
            "business_id": t.id, "provider": "twilio", "account_ref": "AC" + "0" * 32,
            "secret": "not a real secret",
        },
        "create_customer": lambda t: {
            "business_id": t.id, "first_name": "New", "email": "new@customer.example",
        },
        "find_customer": lambda t: {"business_id": t.id, "email": "hub@customer.example"},
        "search_customers": lambda t: {"business_id": t.id, "query": "Ana"},
        "open_conversation": lambda t: {
            "business_id": t.id, "channel_id": t.ids["channels"],
            "customer_id": t.ids["customers"], "subject": "Hello",
        },
        "mark_conversation_read": lambda t: {
            "business_id": t.id, "conversation_id": t.ids["conversations"],
        },
        "record_message": lambda t: {
            "business_id": t.id, "conversation_id": t.ids["conversations"], "body": "Hello",
        },
        "record_inbound_message": lambda t: {
            "business_id": t.id, "channel_id": t.ids["channels"],
            "peer": "hub@customer.example", "body": "Hello", "provider_message_id": "new",
        },
        "log_call": lambda t: {
            "business_id": t.id, "direction": "inbound", "peer": "+14155550123",
        },
        "retry_webhook_event": lambda t: {
            "business_id": t.id, "event_id": sample("webhook_events", t.business),
        },
        "start_import": lambda t: {
            "business_id": t.id, "kind": "customers", "row_count": 1,
        },
        "add_import_rows": lambda t: {
            "business_id": t.id, "batch_id": sample("import_batches", t.business),
            "rows": Jsonb([{"line": 1, "first_name": "New"}]),
        },
        "check_import": lambda t: {
            "business_id": t.id, "batch_id": sample("import_batches", t.business),
        },
        "commit_import": lambda t: {
            "business_id": t.id, "batch_id": sample("import_batches", t.business),
        },
        "discard_import": lambda t: {
            "business_id": t.id, "batch_id": sample("import_batches", t.business),
        },
        "import_customers": lambda t: {
            "business_id": t.id, "rows": Jsonb([{"first_name": "New"}]),
        },
        "import_messages": lambda t: {
            "business_id": t.id, "channel_id": t.ids["channels"],
            "rows": Jsonb([{"peer": "new@customer.example", "body": "Hello"}]),
        },
        "import_calls": lambda t: {
            "business_id": t.id,
            "rows": Jsonb([{"direction": "inbound", "peer": "+14155550123",
                            "started_at": "2026-01-15T10:00:00Z"}]),
        },
        "recompute_metrics": lambda t: {"business_id": t.id},
    }  # fmt: skip


def _plain_calls() -> dict[str, Arguments]:
    """Functions that name no business."""
    return {
        "create_organization": {"name": "New organization"},
        "accept_invitation": {"token": "no such token"},
        "normalize_phone": {"raw": "+14155550123", "region": None},
        "is_valid_phone": {"raw": "+14155550123", "region": None},
        "format_phone": {"e164": "+14155550123", "format": "international"},
        "normalize_email": {"raw": "Ana@Example.com"},
        "is_valid_email": {"raw": "ana@example.com"},
        "my_businesses": {},
        "my_permissions": {},
        "my_sessions": {},
        "revoke_session": {"session_id": ALPHA_ONE.id},
        "revoke_other_sessions": {},
        "authenticate_api_key": {"key_hash": "0" * 64},
        "wal_position": {"principals": [ALPHA_ONE.id]},
        "replay_position": {},
        "explain_access": {"table": "customers", "id": ALPHA_ONE.id, "verb": "select"},
        "explain_rule": {
            "table": "customers",
            "id": ALPHA_ONE.id,
            "verb": "select",
            "is_allowed": False,
        },
        "may_insert": {"table": "customers", "business_id": ALPHA_ONE.id},
        "may_create": {"business_id": ALPHA_ONE.id, "permission": "customers.write"},
        "may_access_record": {
            "resource": "customers",
            "business_id": ALPHA_ONE.id,
            "record_id": ALPHA_ONE.id,
            "permission": "customers.read",
        },
        "my_limited_business_ids": {"permission": "customers.read"},
        "my_reach": {"permission": "customers.read"},
        "my_business_ids": {"permission": "customers.read"},
        "my_metric_differences": {},
        "check_code_version": {"newest_known": "20991231000000"},
        "boot_facts": {},
        "boot_digest": {},
        "boot_rows": {},
        "check_request": {},
        "resolve_tenant": {"kind": "tenant", "key": str(ALPHA_ONE.id)},
        "homes_of": {"principal": ALPHA_ONE.id},
        "placement_overview": {},
        "api_planes": {},
        "request_fleet_job": {"kind": "migrate_status"},
        "provision_business": {"name": "New", "owner_email": "organization.admin@people.example"},
        "move_business": {"business_id": ALPHA_ONE.id, "isolation": "schema"},
    }


def _webhook_calls(tenant: Tenant) -> dict[str, Arguments]:
    connection = tenant.ids["provider_connections"]
    return {
        "webhook_connection": {"connection_id": connection},
        "webhook_homes": {},
        "ingest_webhook": {
            "connection_id": connection, "provider_event_id": "new", "kind": "test",
            "payload": Jsonb({}), "events": Jsonb([]),
        },
        "retry_webhook_events": {"max_events": 1},
    }  # fmt: skip


class Calls:
    """All valid calls in one world."""

    #: What they give when they are allowed: the token is nobody's, the import another's (an owner's
    #: rows are nobody's own), and one row too few has arrived.
    ENDS: Mapping[str, str] = {
        "accept_invitation": "PT404",
        "revoke_session": "PT404",
        "delete_role": "PT409",
        "add_import_rows": "PT404",
        "check_import": "PT404",
        "commit_import": "PT404",
    }
    #: Beside a copy of the registry, whatever would change it is refused: PT421, also for what asks
    #: for a permission and is not listed. Some look first, for what is not copied or is in use.
    ENDS_AT_COPY: Mapping[str, str] = {
        "create_organization": "PT421", "revoke_other_sessions": "PT421",
        "request_fleet_job": "PT421", "move_business": "PT421", "verify_domain": "PT421",
        "provision_business": "PT404", "revoke_invitation": "PT404", "resend_invitation": "PT404",
        "delete_role": "PT409",
    }  # fmt: skip
    #: A job is no person: it has no sessions, and makes no key for itself.
    SERVICE_ENDS: Mapping[str, str] = {
        "commit_import": "PT409", "delete_role": "PT409", "create_api_key": "42501",
    }  # fmt: skip
    #: Asked with a user, a business and a role; test_functions has their truth table.
    ABOUT_USERS = frozenset({
        "can_access_business", "has_business_role", "is_business_admin",
        "get_user_organization_id", "get_user_organization_ids",
    })  # fmt: skip

    def __init__(self, world: World) -> None:
        self._world = world
        self.of_business = _business_calls(world)
        self.plain = _plain_calls()
        self.webhooks = frozenset(_webhook_calls(next(iter(world.tenants.values()))))

    def statement(self, name: str, tenant: Tenant) -> sql.Composable:
        schema = self._world.site.schema_of(f"public.{name}")
        if name in self.of_business:
            return call_text(name, self.of_business[name](tenant), schema)
        if name in self.webhooks:
            return call_text(name, _webhook_calls(tenant)[name], schema)
        return call_text(name, self.plain[name], schema)

    @property
    def covered(self) -> frozenset[str]:
        return frozenset({*self.of_business, *self.plain, *self.webhooks, *self.ABOUT_USERS})
