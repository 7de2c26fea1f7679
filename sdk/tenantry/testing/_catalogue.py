"""The permissions, system roles and templates of the fake, as the migrations have them."""

from __future__ import annotations

Grants = dict[str, tuple[str, bool]]

_SCOPED = ("customers", "conversations", "messages", "calls")
#: Code to description.
PERMISSIONS = {
    "business.read": "See the business and its settings.",
    "business.write": "Change the business and its settings.",
    "members.read": "See members, their roles, departments and open invitations.",
    "members.write": "Invite, change and remove members up to one's own rank.",
    "roles.write": "Make and change roles of the business, and single permissions of members.",
    "departments.write": "Make and change departments.",
    "records.share": "Share records one reaches with members, roles or departments.",
    "api_keys.read": "See API keys, without their secret.",
    "api_keys.write": "Make and revoke API keys.",
    "billing.read": "See the plan and its use.",
    "billing.write": "Change the plan.",
    "integrations.read": "See provider connections and incoming webhook events.",
    "integrations.write": "Connect providers and retry their events.",
    "channels.read": "See the phone numbers, mailboxes and chats of the business.",
    "channels.write": "Add and change channels.",
    "customers.read": "See customers and their contact points.",
    "customers.write": "Add and change customers and their contact points.",
    "customers.delete": "Remove customers.",
    "conversations.read": "See conversations.",
    "conversations.write": "Open, assign, snooze and resolve conversations.",
    "messages.read": "Read messages.",
    "messages.write": "Write messages.",
    "calls.read": "See calls and their transcripts.",
    "calls.write": "Log calls and note their outcome.",
    "metrics.read": "See daily metrics and dashboards.",
    "audit.read": "See the audit log.",
}
NOT_FOR_KEYS = {
    "members.write", "roles.write", "departments.write", "records.share", "api_keys.read",
    "api_keys.write", "business.write", "billing.read", "billing.write", "integrations.write",
    "audit.read",
}  # fmt: skip

#: Code to name and rank.
SYSTEM_ROLES = {
    "owner": ("Owner", 1000), "admin": ("Admin", 900), "director": ("Director", 700),
    "manager": ("Manager", 500), "staff": ("Staff", 300),
    "sales_rep": ("Sales representative", 300), "viewer": ("Viewer", 100),
    "customer": ("Customer", 0),
}  # fmt: skip

_LOOKING = {"business.read", "members.read", "channels.read", "customers.read",
            "conversations.read", "messages.read", "calls.read"}  # fmt: skip
_WORKING = _LOOKING | {
    "customers.write", "conversations.write", "messages.write", "calls.write", "records.share",
}  # fmt: skip
_READING = {code for code in PERMISSIONS if code.endswith(".read")} - {"api_keys.read"}
_CARRIED = {
    "owner": set(PERMISSIONS),
    "admin": set(PERMISSIONS) - {"billing.write"},
    "director": _READING,
    "manager": (_READING - {"audit.read", "billing.read"}) | _WORKING | {"customers.delete"},
    "staff": _WORKING | {"metrics.read"},
    "sales_rep": _WORKING,
    "viewer": _LOOKING | {"metrics.read"},
    "customer": {"conversations.read", "messages.read"},
}

_EVERYBODY = {"business.read": "business", "members.read": "business"}
#: Code to name and permissions.
TEMPLATES: dict[str, tuple[str, dict[str, str]]] = {
    "accountant": ("Accountant", _EVERYBODY | {
        "billing.read": "business", "customers.read": "business", "metrics.read": "business",
    }),
    "hr_officer": ("HR officer", _EVERYBODY | {
        "members.write": "business", "departments.write": "business",
    }),
    "warehouse_keeper": ("Warehouse keeper", _EVERYBODY | {"customers.read": "department"}),
    "buyer": ("Buyer", _EVERYBODY | {
        "channels.read": "business", "customers.read": "department",
        "conversations.read": "department", "conversations.write": "department",
        "messages.read": "department", "messages.write": "department",
    }),
    "dispatcher": ("Dispatcher", _EVERYBODY | dict.fromkeys((
        "channels.read", "customers.read", "customers.write", "conversations.read",
        "conversations.write", "messages.read", "messages.write", "calls.read", "calls.write",
    ), "business")),
    "marketer": ("Marketer", _EVERYBODY | dict.fromkeys((
        "channels.read", "customers.read", "conversations.read", "metrics.read",
    ), "business")),
}  # fmt: skip


def is_record_scoped(permission: str) -> bool:
    return permission.split(".")[0] in _SCOPED


def system_grants(role: str) -> Grants:
    """What a system role carries: permission to scope, and whether it may be passed on."""
    return {code: (_scope(role, code), role in ("owner", "admin")) for code in _CARRIED[role]}


def _scope(role: str, permission: str) -> str:
    if not is_record_scoped(permission):
        return "business"
    if role == "staff" or (role == "manager" and not permission.endswith(".read")):
        return "department"
    return "own" if role in ("sales_rep", "customer") else "business"
