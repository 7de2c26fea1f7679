"""Importing customers: the right person, once, completely, or not at all."""

from __future__ import annotations

import pytest

from tenantry_cli.importing.columns import Kind, map_columns
from tenantry_cli.importing.table import read_table
from tenantry_cli.importing.values import read_row

from .conftest import CHINOOK, OURS, read_csv

CUSTOMERS = "select * from customers where business_id = %s order by created_at, id"


@pytest.fixture(scope="module")
def chinook():
    """The file as the command reads it: what is sent to the API."""
    table = read_table(CHINOOK)
    mapping = map_columns(Kind.customers, table.columns)
    return [read_row(Kind.customers, row, mapping) for row in table.rows]


def customers(owner):
    return owner.all(CUSTOMERS, owner.business_id)


def problems(result):
    return [(one["line"], one["field"], one["reason"]) for one in result["problems"]]


def test_chinook_agrees_with_its_truth(owner, chinook):
    result = owner.import_("customers", chinook, options={"keep_invalid_phones": True})
    assert (result["created"], result["bad"], result["problems"]) == (35, 0, [])
    truth = read_csv(CHINOOK)
    stored = {row["primary_email"]: row for row in customers(owner)}
    assert len(truth) == len(stored) == 35
    for line in truth:
        row = stored[line["email"].lower()]
        assert (row["first_name"], row["last_name"]) == (line["first_name"], line["last_name"])
        assert row["display_name"] == f"{line['first_name']} {line['last_name']}"
        assert (row["company_name"] or "") == line["company"]
        assert (row["address_line"], row["city"]) == (line["address"], line["city"].strip())
        assert (row["region"] or "", row["postal_code"] or "") == (
            line["state"],
            line["postal_code"],
        )
        assert row["country"] == line["region"], line["country"]
        if line["phone_valid_truth"] == "1":
            assert row["primary_phone"] == line["phone_e164_truth"]
            assert row["notes"] is None
        else:
            assert row["primary_phone"] is None
            assert row["notes"] == f"Unverified phone: {line['phone_raw']}"
        assert (row["source"], row["lifecycle_stage"]) == ("import", "customer")
    assert {"Luís", "François", "Bjørn", "Gonçalves"} <= {
        name for row in stored.values() for name in (row["first_name"], row["last_name"])
    }
    # The columns that hold the truth went nowhere.
    assert all(row["custom_fields"] == {} for row in stored.values())
    assert owner.counts()["contact_points"] == 35 + 33
    assert owner.drift() == []


def test_the_phones_that_are_none_are_bad_rows_and_stop_everything(owner, chinook, refused):
    invalid = [n for n, line in enumerate(read_csv(CHINOOK), 2) if line["phone_valid_truth"] == "0"]
    error = refused(owner.import_, "customers", chinook)
    assert (error["code"], error["reason"]) == ("22023", "bad_rows")
    assert [one["line"] for one in error["details"]["problems"]] == invalid
    assert all(one["field"] == "phone" for one in error["details"]["problems"])
    assert owner.counts()["customers"] == 0


def test_with_skip_bad_the_good_ones_are_imported_and_the_bad_ones_named(owner, chinook):
    result = owner.import_("customers", chinook, skip_bad=True)
    assert (result["created"], result["bad"]) == (33, 2)
    assert problems(result) == [(8, "phone", "invalid_phone"), (36, "phone", "invalid_phone")]
    # The rest comes later, and only the rest is new.
    result = owner.import_("customers", chinook, options={"keep_invalid_phones": True})
    assert (result["created"], result["already_there"]) == (2, 33)


def test_importing_the_same_again_changes_nothing(owner, chinook):
    owner.import_("customers", chinook, options={"keep_invalid_phones": True})
    before, counts = customers(owner), owner.counts()
    result = owner.import_("customers", chinook, options={"keep_invalid_phones": True})
    assert (result["created"], result["completed"], result["already_there"]) == (0, 0, 35)
    assert customers(owner) == before
    assert owner.counts() == counts
    audited = "select count(*) from audit_logs where business_id = %s and event_type = 'update'"
    assert owner.value(audited, owner.business_id) == 0


def test_rows_without_an_id_are_known_by_their_content_and_number(owner):
    rows = [
        {"first_name": "Ana"},
        {"first_name": "Ana"},
        {"first_name": "Bo", "phone": "2125550123"},
    ]
    assert owner.import_("customers", rows)["created"] == 3
    assert owner.import_("customers", rows)["already_there"] == 3
    # Another order, and one more of the same name.
    result = owner.import_("customers", [{"first_name": "Ana"}, *reversed(rows)])
    assert (result["created"], result["already_there"]) == (1, 3)
    assert [row["first_name"] for row in customers(owner)] == ["Ana", "Ana", "Bo", "Ana"]


def test_an_id_with_other_content_is_refused_unless_it_is_of_another_system(owner):
    owner.import_("customers", [{"external_id": "1", "first_name": "Ana"}])
    result = owner.import_("customers", [{"external_id": "1", "first_name": "Bob"}], skip_bad=True)
    assert problems(result) == [(1, "external_id", "changed")]
    other = owner.import_(
        "customers", [{"external_id": "1", "first_name": "Bob"}], options={"source": "hubspot"}
    )
    assert other["created"] == 1
    assert [row["source"] for row in customers(owner)] == ["import", "hubspot"]


def test_a_known_number_completes_its_customer_and_overwrites_nothing(owner):
    lead = owner.one(
        "select * from create_customer(%s, first_name => 'Annie', phone => '(212) 555-0123',"
        " tags => array['vip'], custom_fields => '{\"size\": \"S\"}')",
        owner.business_id,
    )
    row = {
        "external_id": "7", "first_name": "Ana", "last_name": "Miller", "phone": "+1 212 555 0123",
        "email": "Ana@Shop.example.com", "city": "Boston", "tags": ["vip", "north"],
        "custom_fields": {"size": "L", "shoe": "38"}, "notes": "met in May",
    }  # fmt: skip
    result = owner.import_("customers", [row])
    assert (result["created"], result["completed"]) == (0, 1)
    (stored,) = customers(owner)
    assert stored["id"] == lead["id"]
    assert (stored["first_name"], stored["last_name"]) == ("Annie", "Miller")
    assert (stored["city"], stored["notes"]) == ("Boston", "met in May")
    assert (stored["lifecycle_stage"], stored["tags"]) == ("customer", ["vip", "north"])
    assert stored["custom_fields"] == {"size": "S", "shoe": "38"}
    assert (stored["primary_phone"], stored["primary_email"]) == (
        "+12125550123",
        "ana@shop.example.com",
    )
    assert owner.import_("customers", [row])["already_there"] == 1
    assert owner.counts()["contact_points"] == 2


def test_a_whatsapp_number_is_the_same_person(owner):
    lead = owner.value(
        "insert into customers (business_id, first_name) values (%s, 'Ana') returning id",
        owner.business_id,
    )
    owner.all(
        "insert into contact_points (business_id, customer_id, kind, raw)"
        " values (%s, %s, 'whatsapp', '+12125550123')",
        owner.business_id,
        lead,
    )
    assert owner.import_("customers", [{"phone": "2125550123"}])["completed"] == 1
    kinds = owner.all("select kind from contact_points where customer_id = %s order by kind", lead)
    assert [one["kind"] for one in kinds] == ["phone", "whatsapp"]


def test_a_merged_customer_is_followed(world, owner):
    rows = [{"first_name": "Ana", "phone": "2125550123"}, {"first_name": "Anna"}]
    owner.import_("customers", rows)
    world.operator.execute(
        "update customers c set merged_into_id = o.id from customers o"
        " where c.business_id = %(b)s and o.business_id = %(b)s"
        " and c.first_name = 'Ana' and o.first_name = 'Anna'",
        {"b": owner.business_id},
    )
    row = {"external_id": "9", "phone": "2125550123", "city": "Boston"}
    assert owner.import_("customers", [row])["completed"] == 1
    assert [(one["first_name"], one["city"]) for one in customers(owner)] == [
        ("Ana", None),
        ("Anna", "Boston"),
    ]


def test_numbers_are_read_by_row_country_then_option_then_business(owner):
    rows = [
        {"first_name": "a", "phone": "030 901820", "phone_country": "DE"},
        {"first_name": "b", "phone": "020 7946 0018", "country": "GB"},
        {"first_name": "c", "phone": "01 49 70 65 65"},
        {"first_name": "d", "phone": "+1 212 555 0123 ext. 42"},
    ]
    result = owner.import_("customers", rows, options={"country": "FR"})
    assert result["created"] == 4
    assert [row["primary_phone"] for row in customers(owner)] == [
        "+4930901820", "+442079460018", "+33149706565", "+12125550123"
    ]  # fmt: skip
    extension = "select extension from contact_points where business_id = %s and extension <> ''"
    assert owner.value(extension, owner.business_id) == "42"


BAD = [
    ({}, "first_name", "empty", "at least one"),
    ({"first_name": "x", "phone": "12"}, "phone", "invalid_phone", "country code"),
    ({"first_name": "x", "phone": "+7378742833"}, "phone", "invalid_phone", "country code"),
    ({"first_name": "x", "email": "a@b@c"}, "email", "invalid_email", "ana@example.com"),
    ({"first_name": "x", "country": "Atlantis"}, "country", "bad_country", "ISO 3166-1"),
    ({"first_name": "x", "phone_country": "de"}, "phone_country", "bad_country", "capital"),
    ({"first_name": "x", "kind": "robot"}, "kind", "bad_choice", "person or organization"),
    ({"first_name": "x", "lifecycle_stage": "vip"}, "lifecycle_stage", "bad_choice", "prospect"),
    ({"first_name": "x" * 201}, "first_name", "too_long", "Shorten"),
    ({"first_name": "x", "notes": "x" * 10001}, "notes", "too_long", "Shorten"),
    ({"first_name": "x", "postal_code": "1" * 41}, "postal_code", "too_long", "Shorten"),
    ({"first_name": "x", "tags": "vip"}, "tags", "bad_tags", "fewer"),
    ({"first_name": "x", "tags": ["t"] * 51}, "tags", "bad_tags", "fewer"),
    ({"first_name": "x", "custom_fields": [1]}, "custom_fields", "bad_custom_fields", "fewer"),
    ({"first_name": "x", "phone": OURS}, "phone", "own_address", "Leave it out"),
]


@pytest.mark.parametrize(("row", "field", "reason", "remedy"), BAD)
def test_each_kind_of_bad_row_names_line_field_and_remedy(owner, row, field, reason, remedy):
    good = {"line": 2, "first_name": "Good"}
    result = owner.import_("customers", [good, {"line": 7, **row}], skip_bad=True)
    assert problems(result) == [(7, field, reason)]
    (problem,) = result["problems"]
    assert remedy in problem["remedy"]
    assert len(problem["value"]) <= 60
    assert problem["problem"].endswith(".")
    assert [one["first_name"] for one in customers(owner)] == ["Good"]


def test_all_that_is_wrong_with_a_row_is_said_at_once(owner):
    row = {"first_name": "x" * 300, "phone": "12", "email": "no", "country": "?"}
    result = owner.import_("customers", [row, {"first_name": "y"}], skip_bad=True)
    assert {one["field"] for one in result["problems"]} == {
        "first_name", "phone", "email", "country"
    }  # fmt: skip
    assert result["bad"] == 1


def test_rows_that_contradict_each_other_or_what_is_stored(owner):
    for name, phone, email in (
        ("Ana", "2125550100", None),
        ("Bob", None, "bob@shop.example.com"),
        ("Gone", "2125550109", None),
    ):
        owner.all(
            "select create_customer(%s, first_name => %s, phone => %s, email => %s)",
            *(owner.business_id, name, phone, email),
        )
    owner.all(
        "update customers set deleted_at = now() where business_id = %s and first_name = 'Gone'",
        owner.business_id,
    )
    rows = [
        {"external_id": "1", "first_name": "x", "phone": "2125550101"},
        {"external_id": "2", "first_name": "y", "phone": "+1 (212) 555-0101"},
        {"external_id": "3", "first_name": "z", "email": "Z@shop.example.com"},
        {"external_id": "4", "first_name": "w", "email": "z@SHOP.example.com"},
        {"external_id": "1", "first_name": "again"},
        {"external_id": "5", "phone": "2125550100", "email": "bob@shop.example.com"},
        {"external_id": "6", "phone": "2125550109"},
        {"external_id": "7", "phone": "2125550100"},
        {"external_id": "8", "phone": "2125550100", "email": "new@shop.example.com"},
    ]
    for number, row in enumerate(rows, 2):
        row["line"] = number
    result = owner.import_("customers", rows, skip_bad=True)
    assert sorted(problems(result)) == [
        (3, "phone", "duplicate"),
        (5, "email", "duplicate"),
        (6, "external_id", "duplicate"),
        (7, "email", "two_customers"),
        (8, "phone", "removed"),
        (9, "phone", "duplicate"),
        (10, "phone", "duplicate"),
    ]
    assert "Line 2 has the same phone number" in result["problems"][0]["problem"]
    assert (result["created"], result["completed"], result["bad"]) == (2, 0, 7)


def test_one_existing_customer_takes_one_row_of_a_source(owner):
    owner.import_("customers", [{"external_id": "1", "phone": "2125550123"}])
    row = {"external_id": "2", "phone": "2125550123"}
    result = owner.import_("customers", [row, {"first_name": "y"}], skip_bad=True)
    assert problems(result) == [(1, "phone", "duplicate")]
    assert owner.import_("customers", [row], options={"source": "other"})["completed"] == 1


def test_a_row_with_a_company_alone_is_an_organization(owner):
    owner.import_("customers", [{"company_name": "Acme"}, {"company_name": "B", "first_name": "x"}])
    assert [row["kind"] for row in customers(owner)] == ["organization", "person"]


def test_customers_are_found_and_audited_like_any_other(owner):
    owner.import_("customers", [{"first_name": "Zoë", "email": "zoe@shop.example.com"}])
    found = owner.one("select * from search_customers(%s, 'zoe')", owner.business_id)
    assert found["first_name"] == "Zoë"
    entry = owner.one(
        "select * from audit_logs where business_id = %s and resource = 'customers'",
        owner.business_id,
    )
    assert (entry["actor_id"], entry["event_type"]) == (owner.user_id, "insert")
    assert entry["after"]["first_name"] == "[masked]"
