"""The rows of the fake server, and the rules that make new ones. Nothing about HTTP."""

from __future__ import annotations

import copy
import datetime
import itertools
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from tenantry import models
from tenantry._reply import columns_of
from tenantry._row import Row as Model
from tenantry.testing._catalogue import (
    NOT_FOR_KEYS,
    PERMISSIONS,
    SYSTEM_ROLES,
    TEMPLATES,
    Grants,
    is_record_scoped,
    system_grants,
)
from tenantry.testing._problems import Problem

Row = dict[str, Any]

#: Tables the fake keeps, and what a new row has when nobody says otherwise.
TABLES: dict[str, tuple[type[Model], Row]] = {
    "organizations": (models.Organization, {"status": "active", "requires_mfa": False}),
    "businesses": (models.Business, {"status": "active", "settings": {}, "locale": "en"}),
    "profiles": (models.Profile, {"login_count": 1}),
    "business_memberships": (models.BusinessMembership, {"status": "active"}),
    "invitations": (models.Invitation, {"status": "pending"}),
    "customers": (
        models.Customer,
        {"kind": "person", "lifecycle_stage": "lead", "source": "api", "tags": [],
         "custom_fields": {}},
    ),
    "contact_points": (models.ContactPoint, {"is_primary": False}),
    "channels": (models.Channel, {"threading": "single", "settings": {}, "is_active": True}),
    "conversations": (
        models.Conversation, {"status": "open", "message_count": 0, "unread_count": 0},
    ),
    "messages": (models.Message, {"media": [], "payload": {}}),
    "calls": (models.Call, {"status": "completed", "legs": []}),
    "call_transcripts": (models.CallTranscript, {"status": "completed", "segments": []}),
    "permissions": (models.Permission, {}),
    "permission_templates": (models.PermissionTemplate, {}),
    "roles": (models.Role, {}),
    "departments": (models.Department, {}),
    "department_roles": (models.DepartmentRole, {}),
    "user_permissions": (models.UserPermission, {}),
    "access_control_lists": (models.AccessControlList, {}),
    "api_keys": (models.ApiKey, {}),
    "business_domains": (models.BusinessDomain, {}),
    "fleet_jobs": (models.FleetJob, {"state": "queued", "progress": {}, "attempts": 0}),
}  # fmt: skip


class World:
    """All rows, and a clock. Ids are counted, so that a test sees the same ones every time."""

    def __init__(self, now: Callable[[], datetime.datetime] | None) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        #: membership id -> codes of roles
        self.roles: dict[UUID, list[str]] = {}
        #: role -> what it carries; role -> codes of the roles it inherits from; key -> its row
        self.grants: dict[UUID, Grants] = {}
        self.inherits: dict[UUID, list[str]] = {}
        self.key_rows: dict[str, Row] = {}
        #: (business, key) -> what was asked, and the id of the row it gave
        self.keys: dict[tuple[UUID, str], tuple[Any, UUID]] = {}
        #: organization -> its owner; token -> invitation and role; user -> address
        self.organization_owners: dict[UUID, UUID] = {}
        self.invited: dict[str, tuple[Row, str]] = {}
        self.emails: dict[UUID, str] = {}
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))
        self._numbers = itertools.count(1)
        self._know_the_catalogue()

    def _know_the_catalogue(self) -> None:
        for code, description in sorted(PERMISSIONS.items()):
            self.insert(
                "permissions", code=code, description=description,
                is_record_scoped=is_record_scoped(code), for_api_keys=code not in NOT_FOR_KEYS,
            )  # fmt: skip
        for code, (name, rank) in SYSTEM_ROLES.items():
            role = self.insert("roles", code=code, name=name, rank=rank)
            self.grants[role["id"]], self.inherits[role["id"]] = system_grants(code), []
        for code, (name, permissions) in TEMPLATES.items():
            self.insert("permission_templates", code=code, name=name, permissions=permissions)

    def now(self) -> datetime.datetime:
        return self._now().astimezone(datetime.UTC)

    def new_id(self) -> UUID:
        return UUID(f"0197a000-0000-7000-8000-{next(self._numbers):012d}")

    def insert(self, table: str, **values: Any) -> Row:
        """A new row with all columns; it is the stored one, so changes to it are kept."""
        model, defaults = TABLES[table]
        moment = self.now()
        row: Row = dict.fromkeys(columns_of(model).split(","))
        row.update(copy.deepcopy(defaults))
        stamped = {
            "created_at",
            "updated_at",
            "joined_at",
            "opened_at",
            "occurred_at",
            "started_at",
        }
        row.update(dict.fromkeys(stamped & row.keys(), moment))
        if "id" in row:
            row["id"] = self.new_id()
        row.update({name: value for name, value in values.items() if value is not None})
        if "metric_date" in row:
            at = row.get("started_at") or row.get("occurred_at") or row["created_at"]
            row["metric_date"] = self.local_day(row["business_id"], at)
        self.rows[table].append(row)
        return row

    def find(self, table: str, **values: Any) -> Iterator[Row]:
        for row in self.rows[table]:
            if all(row[name] == value for name, value in values.items()):
                yield row

    def one(self, table: str, field: str, **values: Any) -> Row:
        """The row, or the error of a function that was given the id of none."""
        for row in self.find(table, **values):
            return row
        what = table.removesuffix("s")
        raise Problem(
            "PT404", f"There is no such {what} in this business.",
            field=field, reason="not_found", hint=f"Check {field}.",
        )  # fmt: skip

    def local_day(self, business_id: UUID, at: datetime.datetime) -> datetime.date:
        zone = next(self.find("businesses", id=business_id))["timezone"]
        return at.astimezone(zoneinfo.ZoneInfo(zone)).date()

    def membership_of(self, business_id: UUID, user: UUID) -> UUID | None:
        wanted = {"business_id": business_id, "user_id": user, "status": "active"}
        membership = next(self.find("business_memberships", **wanted), None)
        return membership["id"] if membership else None

    # Roles.

    def role_named(self, business_id: UUID, code: str) -> Row | None:
        """A system role, or one of the business."""
        return next(
            (r for r in self.find("roles", code=code) if r["business_id"] in (None, business_id)),
            None,
        )

    def carried(self, business_id: UUID, code: str) -> list[Row]:
        """The role with this code, and all it inherits from."""
        found: list[Row] = []
        waiting = [code]
        while waiting:
            role = self.role_named(business_id, waiting.pop())
            if role is not None and role not in found:
                found.append(role)
                waiting += self.inherits[role["id"]]
        return found

    # Addresses.

    def normalized(self, business_id: UUID, kind: str, raw: str, field: str) -> str:
        """The one form of an address. Raises the error of the real server for none."""
        if kind == "email":
            try:
                return validate_email(raw, check_deliverability=False).normalized.lower()
            except EmailNotValidError:
                raise Problem(
                    "22023", f"{field} is not a valid e-mail address.",
                    field=field, reason="invalid_email",
                    hint="Send one address, like ana@example.com.",
                ) from None  # fmt: skip
        if kind not in ("phone", "whatsapp"):
            return raw.strip().lower()
        country = next(self.find("businesses", id=business_id))["country"]
        try:
            number = phonenumbers.parse(raw, country)
        except phonenumbers.NumberParseException:
            number = None
        if number is None or not phonenumbers.is_valid_number(number):
            raise Problem(
                "22023", f"{field} is not a valid phone number.",
                field=field, reason="invalid_phone",
                hint="Send the number with its country code, like +14155550123, or a national"
                f" number of {country}.",
            ) from None  # fmt: skip
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    def owner_of(self, business_id: UUID, normalized: str) -> Row | None:
        """The customer who has this address; phone and WhatsApp numbers are one identity."""
        for point in self.find("contact_points", business_id=business_id, normalized=normalized):
            return next(self.find("customers", id=point["customer_id"]))
        return None

    def add_contact_point(self, customer: Row, kind: str, raw: str, field: str) -> Row:
        business_id = customer["business_id"]
        normalized = self.normalized(business_id, kind, raw, field)
        if owner := self.owner_of(business_id, normalized):
            raise Problem(
                "23505", f"A customer with this {field} exists.", field=field, reason="exists",
                hint="Use the existing customer, or merge the two.", customer_id=str(owner["id"]),
            )  # fmt: skip
        others = self.find("contact_points", customer_id=customer["id"], kind=kind)
        point = self.insert(
            "contact_points", business_id=business_id, customer_id=customer["id"], kind=kind,
            raw=raw, normalized=normalized, is_primary=next(others, None) is None,
        )  # fmt: skip
        self.refresh_primary(customer)
        return point

    def refresh_primary(self, customer: Row) -> None:
        for column, kinds in (
            ("primary_phone", ("phone", "whatsapp")),
            ("primary_email", ("email",)),
        ):
            points = [
                p for p in self.find("contact_points", customer_id=customer["id"])
                if p["kind"] in kinds
            ]  # fmt: skip
            points.sort(key=lambda p: not p["is_primary"])
            customer[column] = points[0]["normalized"] if points else None

    def link(self, business_id: UUID, kind: str, normalized: str, source: str) -> UUID:
        """The customer behind an address, found or created as a lead."""
        customer = self.owner_of(business_id, normalized)
        if customer is None:
            customer = self.insert("customers", business_id=business_id, source=source)
            self.add_contact_point(customer, kind, normalized, kind)
        name_customer(customer)
        return UUID(str(customer["id"]))


def name_customer(customer: Row) -> None:
    """What to show: the name, else the company, else Unknown."""
    name = " ".join(filter(None, (customer["first_name"], customer["last_name"])))
    customer["display_name"] = name or customer["company_name"] or "Unknown"
