"""From columns and wording of a file to the fields and values of the API."""

from __future__ import annotations

import pytest

from tenantry_cli.importing.columns import Kind, map_columns
from tenantry_cli.importing.countries import country_code
from tenantry_cli.importing.problems import ImportRefused
from tenantry_cli.importing.table import Row, read_table
from tenantry_cli.importing.values import read_row

from .conftest import CHINOOK, SMS


def read(kind: Kind, header: str, values: str, *choices: str, **options):
    columns = header.split(",")
    mapping = map_columns(kind, columns, choices, keep_others=options.pop("keep_others", False))
    row = read_row(kind, Row(2, tuple(values.split(","))), mapping, **options)
    assert row.pop("line") == 2
    return row


def test_chinook_maps_without_being_told_anything():
    table = read_table(CHINOOK)
    mapping = map_columns(Kind.customers, table.columns)
    assert {field: table.columns[n] for field, n in mapping.fields.items()} == {
        "external_id": "customer_id",
        "first_name": "first_name",
        "last_name": "last_name",
        "company_name": "company",
        "phone": "phone_raw",
        "email": "email",
        "address_line": "address",
        "city": "city",
        "region": "state",
        "postal_code": "postal_code",
        "country": "country",
    }
    assert set(mapping.left_out) == {
        "fax_raw", "support_rep_id", "region", "phone_e164_truth", "phone_valid_truth"
    }  # fmt: skip


def test_the_sms_collection_maps_to_text_and_label():
    table = read_table(SMS)
    mapping = map_columns(Kind.messages, table.columns)
    assert {field: table.columns[n] for field, n in mapping.fields.items()} == {
        "body": "text",
        "label": "label",
    }


def test_names_of_columns_are_compared_without_case_spaces_and_signs():
    row = read(Kind.customers, " First Name ,E-Mail,Job-Title,ZIP Code", "Ana,a@b.org,CEO,1")
    assert row == {"first_name": "Ana", "email": "a@b.org", "title": "CEO", "postal_code": "1"}


def test_a_choice_wins_and_a_column_can_be_left_out():
    header = "name,mobile,phone,title"
    assert read(Kind.customers, header, "Ana,1,2,Dr", "phone=MOBILE", "title=") == {
        "first_name": "Ana",
        "phone": "1",
    }


def test_the_better_name_wins_and_the_other_column_is_reported():
    mapping = map_columns(Kind.customers, ["Mobile", "Phone", "region", "State"])
    assert mapping.fields == {"phone": 1, "region": 3}
    assert mapping.left_out == ("Mobile", "region")


def test_columns_are_kept_as_custom_fields_when_asked():
    header, values = "name,fax,score,", "Ana,1,,x"
    assert read(Kind.customers, header, values) == {"first_name": "Ana"}
    assert read(Kind.customers, header, values, "custom_fields.Fax no=fax") == {
        "first_name": "Ana",
        "custom_fields": {"Fax no": "1"},
    }
    assert read(Kind.customers, header, values, keep_others=True)["custom_fields"] == {"fax": "1"}


@pytest.mark.parametrize(
    ("kind", "header", "choice", "told"),
    [
        (Kind.customers, "a,b", None, "no column looks like first_name or"),
        (Kind.messages, "a,b", None, "--column body=COLUMN"),
        (Kind.calls, "peer,b", None, "--column started_at=COLUMN"),
        (Kind.messages, "text", "txt=text", "Fields are external_id, body"),
        (Kind.messages, "text", "body", "write FIELD=COLUMN"),
        (Kind.messages, "text", "body=nothing", "no such column. It has text"),
        (Kind.messages, "text", "custom_fields.x=text", "write FIELD=COLUMN"),
        (Kind.customers, "name", "custom_fields.=name", "write FIELD=COLUMN"),
    ],
)
def test_mappings_that_cannot_be_are_refused_with_the_remedy(kind, header, choice, told):
    with pytest.raises(ImportRefused) as refused:
        map_columns(kind, header.split(","), [choice] if choice else [])
    assert told in str(refused.value)


def test_a_whole_name_is_not_taken_apart():
    assert read(Kind.customers, "name", "Ana María de la Cruz") == {
        "first_name": "Ana María de la Cruz"
    }
    assert read(Kind.customers, "name,last name", "Ana Cruz,Cruz") == {"last_name": "Cruz"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Brazil", "BR"), ("czech republic", "CZ"), ("USA", "US"), ("U.S.A.", "US"), ("gb", "GB"),
        ("United Kingdom", "GB"), ("Deutschland", "DE"), ("  Österreich ", "AT"), ("Chile", "CL"),
        ("Côte d\u2019Ivoire", "CI"), ("日本", "JP"), ("Ireland", "IE"), ("Niger", "NE"),
        ("Atlantis", None), ("", None), ("XX", None),
    ],
)  # fmt: skip
def test_countries_by_code_and_name(name, code):
    assert country_code(name) == code


def test_an_unknown_country_goes_on_as_it_is_so_that_the_database_can_name_it():
    assert read(Kind.customers, "name,country", "Ana,Atlantis")["country"] == "Atlantis"


def test_tags_stages_and_kinds():
    row = read(
        Kind.customers, "name,tags,stage,kind", "Ana,vip;new | north;;,Prospect, Organization"
    )
    assert row == {
        "first_name": "Ana",
        "tags": ["vip", "new", "north"],
        "lifecycle_stage": "prospect",
        "kind": "organization",
    }


def test_the_text_of_a_message_is_not_touched():
    columns = ("text", "direction", "from", "to")
    mapping = map_columns(Kind.messages, columns)
    row = read_row(Kind.messages, Row(2, ("  Hi \n", "Incoming", "+1", "+2")), mapping)
    assert row == {"line": 2, "body": "  Hi \n", "direction": "inbound", "peer": "+1"}


def test_of_two_numbers_the_other_party_is_the_peer():
    header = "start,type,from,to"
    assert read(Kind.calls, header, "t,outgoing,+1,+2")["peer"] == "+2"
    assert read(Kind.calls, header, "t,incoming,+1,+2")["peer"] == "+1"
    assert read(Kind.calls, header, "t,,+1,+2", direction="outbound")["peer"] == "+2"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("duration", "1:05", "65"), ("duration", "1:00:01", "3601"), ("duration", "90", "90"),
        ("duration", "1:99", "1:99"), ("duration", "soon", "soon"),
        ("status", "Cancelled", "canceled"), ("status", "No Answer", "no_answer"),
        ("status", "missed", "no_answer"), ("status", "no-answer", "no_answer"),
        ("status", "Exploded", "exploded"), ("outcome", "Do not call", "do_not_call"),
        ("direction", "IN", "inbound"), ("direction", "outbound-api", "outbound"),
        ("direction", "sideways", "sideways"),
    ],
)  # fmt: skip
def test_wording_of_calls(field, value, expected):
    row = read(Kind.calls, f"start,{field}", f"t,{value}")
    assert row[{"duration": "duration_seconds"}.get(field, field)] == expected


def test_a_missed_call_came_in_and_was_not_answered():
    row = read(Kind.calls, "start,type", "t,Missed")
    assert (row["direction"], row["status"]) == ("inbound", "no_answer")
