"""Which column of a file is which field of a row."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tenantry_cli.importing.problems import ImportRefused, shown

CUSTOM = "custom_fields."


class Kind(StrEnum):
    """What a file holds."""

    customers = "customers"
    messages = "messages"
    calls = "calls"


#: Field -> names of columns that are taken for it, best first.
FIELDS: dict[Kind, dict[str, tuple[str, ...]]] = {
    Kind.customers: {
        "external_id": ("external_id", "customer_id", "contact_id", "record_id", "crm_id",
                        "customer_number", "customer_no", "id"),
        "first_name": ("first_name", "firstname", "given_name", "forename", "first"),
        "last_name": ("last_name", "lastname", "surname", "family_name", "last"),
        "full_name": ("full_name", "name", "display_name", "contact_name", "customer_name"),
        "company_name": ("company_name", "company", "organization", "organisation",
                         "organization_name", "account_name", "business_name"),
        "title": ("title", "job_title", "position"),
        "phone": ("phone", "phone_number", "telephone", "tel", "phone_raw", "primary_phone",
                  "mobile", "mobile_phone", "cell", "cell_phone"),
        "phone_country": ("phone_country", "phone_region"),
        "email": ("email", "email_address", "e_mail", "mail", "primary_email"),
        "address_line": ("address_line", "address", "street", "street_address", "address_1",
                         "address_line_1"),
        "city": ("city", "town", "locality"),
        "region": ("state", "province", "state_province", "county", "region"),
        "postal_code": ("postal_code", "postcode", "zip", "zip_code", "postal"),
        "country": ("country", "country_name", "country_code"),
        "lifecycle_stage": ("lifecycle_stage", "stage"),
        "kind": ("kind", "customer_kind"),
        "tags": ("tags", "tag", "labels"),
        "notes": ("notes", "note", "comments", "comment", "description"),
    },
    Kind.messages: {
        "external_id": ("external_id", "message_id", "message_sid", "sid", "provider_message_id",
                        "id"),
        "body": ("body", "text", "message", "content", "message_body"),
        "direction": ("direction", "type"),
        "peer": ("peer", "sender", "phone", "phone_number", "number", "address", "contact"),
        "from": ("from", "from_number", "from_address"),
        "to": ("to", "to_number", "to_address", "recipient"),
        "name": ("name", "contact_name", "sender_name", "profile_name"),
        "sent_at": ("sent_at", "occurred_at", "received_at", "date", "datetime", "timestamp",
                    "time", "date_sent", "created_at"),
        "status": ("status",),
        "label": ("label", "category"),
    },
    Kind.calls: {
        "external_id": ("external_id", "call_id", "call_sid", "sid", "provider_call_id", "id"),
        "direction": ("direction", "type"),
        "peer": ("peer", "phone", "phone_number", "number", "contact"),
        "from": ("from", "from_number", "caller", "caller_number"),
        "to": ("to", "to_number", "called", "called_number"),
        "name": ("name", "contact_name", "caller_name"),
        "started_at": ("started_at", "start_time", "start", "date", "datetime", "timestamp",
                       "time", "created_at"),
        "duration_seconds": ("duration_seconds", "duration", "seconds", "duration_sec", "length"),
        "status": ("status", "call_status"),
        "outcome": ("outcome", "disposition", "result"),
        "notes": ("notes", "note", "comments", "comment"),
    },
}  # fmt: skip

#: Of each inner tuple one field must have a column, or no row could be good.
NEEDED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    Kind.customers: (("first_name", "last_name", "full_name", "company_name", "phone", "email"),),
    Kind.messages: (("body",),),
    Kind.calls: (("started_at",),),
}


@dataclass(frozen=True)
class Mapping:
    """Field -> position of its column; the columns that are not imported, by name."""

    fields: dict[str, int]
    left_out: tuple[str, ...]


def map_columns(
    kind: Kind, columns: Sequence[str], choices: Iterable[str] = (), *, keep_others: bool = False
) -> Mapping:
    """Decide which column is which field.

    `choices` are `field=column` and win over names that match by themselves; `field=` takes no
    column. `custom_fields.NAME=column` keeps a column of customers; `keep_others` keeps all that
    are left. Raises ImportRefused.
    """
    chosen = dict(_read_choice(kind, columns, choice) for choice in choices)
    fields = {field: position for field, position in chosen.items() if position is not None}
    by_key = {_key(name): position for position, name in reversed(list(enumerate(columns)))}
    for field, names in FIELDS[kind].items():
        if field in chosen:
            continue
        for name in names:
            position = by_key.get(name)
            if position is not None and position not in fields.values():
                fields[field] = position
                break
    others = [n for n in range(len(columns)) if n not in fields.values() and columns[n]]
    if keep_others:
        fields |= {CUSTOM + columns[n]: n for n in others}
        others = []
    for alternatives in NEEDED[kind]:
        if not any(field in fields for field in alternatives):
            raise ImportRefused(
                f"no column looks like {' or '.join(alternatives)}. The file has "
                f"{', '.join(shown(name) for name in columns if name)}; say which one it is: "
                f"--column {alternatives[0]}=COLUMN"
            )
    return Mapping(fields, tuple(columns[n] for n in others))


def _read_choice(kind: Kind, columns: Sequence[str], choice: str) -> tuple[str, int | None]:
    field, equals, name = choice.partition("=")
    field, name = field.strip(), name.strip()
    custom = kind is Kind.customers and field.startswith(CUSTOM) and len(field) > len(CUSTOM)
    if not equals or not (field in FIELDS[kind] or custom):
        known = ", ".join(FIELDS[kind]) + (f", {CUSTOM}NAME" if kind is Kind.customers else "")
        raise ImportRefused(f"--column {choice}: write FIELD=COLUMN. Fields are {known}")
    if not name:
        return field, None
    for position, column in enumerate(columns):
        if column.casefold() == name.casefold():
            return field, position
    listed = ", ".join(shown(column) for column in columns if column)
    raise ImportRefused(f"--column {choice}: the file has no such column. It has {listed}")


def _key(name: str) -> str:
    return re.sub(r"[^\w]+|_+", "_", unicodedata.normalize("NFKC", name).casefold()).strip("_")
