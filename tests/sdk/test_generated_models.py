"""The models are those of the migrations, and the generator copes with a nasty schema."""

from __future__ import annotations

import datetime
import importlib.util
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import get_args
from uuid import UUID

import generate_sdk_models
import psycopg
import pytest
from pydantic import BaseModel, ValidationError
from sdk_models import catalog, naming, render, view_columns

from tenantry.models import Call, CallDirection, Customer, DailyMetric, Message

NASTY = r'''
create schema nasty;
create domain nasty.cents as bigint check (value >= 0);
create type nasty.color as enum ('red', 'it''s blue');
create table nasty.parents (
  id uuid primary key, name text not null, note text,
  kind text not null check (kind in ('a', 'b')),
  mixed text check (mixed in ('x', 'y') or mixed like 'z%'),
  constraint pair check (kind = 'a' or note is not null)
);
comment on table nasty.parents is 'Says "quoted" and a back\slash""" too.';
comment on column nasty.parents.name is 'The name. @personal name';
comment on column nasty.parents.note is '@personal free_text';
create table nasty.everything (
  id bigint generated always as identity primary key,
  parent_id uuid references nasty.parents,
  "class" text, "from" int, "1st" int, "model_x" int, schema text, copy text, json jsonb not null,
  _hidden int, "weird name" text,
  amount numeric not null, cents nasty.cents not null, ratio float8, tint nasty.color not null,
  tints nasty.color[] not null, at timestamptz not null, local timestamp, day date, moment time,
  data bytea, address inet, path text[], totals nasty.cents[], during tstzrange, took interval,
  doubled numeric generated always as (amount * 2) stored, secret text
);
create view nasty.joined as
  select e.id, p.kind, p.name as parent_name, count(*) over () as total,
    coalesce(p.note, '-') as note, e.amount + 1 as more, exists (select 1) as there,
    case when e.id > 1 then 1 else 2 end as chosen, case when e.id > 1 then 1 end as maybe
  from nasty.everything e left join nasty.parents p on p.id = e.parent_id;
create view nasty.grouped as
  select p.kind, count(e.id) as n, sum(e.amount) as total, max(e.ratio) as ratio,
    sum(e.amount) filter (where e.id > 1) as filtered,
    (select count(*) from nasty.everything) as everything
  from nasty.parents p left join nasty.everything e on e.parent_id = p.id group by p.kind;
create view nasty.stacked as
  with g as (select kind, n from nasty.grouped) select g.kind, g.n, null::text as nothing from g
  union all select p.kind, 1, p.note from nasty.parents p;
create function nasty.add_parent(name text, kind text default 'a', "class" text default null)
  returns nasty.parents language sql as 'select null::nasty.parents';
create function nasty.tally(at timestamptz) returns table (day date, amount numeric)
  language sql as 'select null::date, null::numeric';
create function nasty.not_ours() returns int language sql as 'select 1';
create function nasty.on_change() returns trigger language plpgsql as 'begin return new; end';
grant usage on schema nasty to authenticated;
grant select on nasty.joined, nasty.grouped, nasty.stacked, nasty.parents to authenticated;
grant select (id, parent_id, "class", "from", "1st", model_x, schema, copy, json, _hidden,
  "weird name", amount, cents, ratio, tint, tints, at, local, day, moment, data, address, path,
  totals, during, took, doubled) on nasty.everything to authenticated;
grant insert (amount, cents, json, tint, tints, at, "class"), update ("class", amount)
  on nasty.everything to authenticated;
revoke execute on all functions in schema nasty from public;
grant execute on function nasty.add_parent, nasty.tally, nasty.on_change to authenticated;
'''


@pytest.fixture(scope="module")
def nasty(module_database) -> catalog.Catalog:
    with psycopg.connect(module_database.url()) as connection:
        connection.execute(NASTY)
        return catalog.read_catalog(connection, "nasty")


@pytest.fixture(scope="module")
def nasty_models(nasty, tmp_path_factory) -> ModuleType:
    path = tmp_path_factory.mktemp("generated") / "nasty_models.py"
    path.write_text(generate_sdk_models.formatted(render.render_models(nasty)))
    specification = importlib.util.spec_from_file_location("nasty_models", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["nasty_models"] = module
    specification.loader.exec_module(module)
    return module


def relation(nasty: catalog.Catalog, name: str) -> dict[str, catalog.Column]:
    (found,) = [r for r in nasty.relations if r.name == name]
    return {column.name: column for column in found.columns}


def test_the_models_are_those_of_the_migrations(database) -> None:
    stale = generate_sdk_models.stale(generate_sdk_models.generate(database.url()))
    assert [path.name for path in stale] == [], (
        "run: python tools/generate_sdk_models.py --database-url <a migrated database>"
    )


def test_a_change_of_the_database_is_noticed_by_check(database) -> None:
    with psycopg.connect(database.url()) as connection:
        connection.execute("alter table customers add column nickname text")
        connection.execute("grant select (nickname) on customers to authenticated")
    files = generate_sdk_models.generate(database.url())
    assert "models.py" in [path.name for path in generate_sdk_models.stale(files)]
    command = [sys.executable, generate_sdk_models.__file__, "--check"]
    checked = subprocess.run(
        [*command, "--database-url", database.url()], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "models.py differs\n" in checked.stdout


def test_the_same_catalog_gives_the_same_bytes(nasty, module_database) -> None:
    with psycopg.connect(module_database.url()) as connection:
        again = catalog.read_catalog(connection, "nasty")
    assert render.render_models(again) == render.render_models(nasty)
    assert render.render_arguments(again) == render.render_arguments(nasty)


def test_closed_lists_are_open_in_the_models() -> None:
    assert set(get_args(get_args(CallDirection)[0])) == {"inbound", "outbound"}
    assert get_args(CallDirection)[1] is str


def test_columns_of_the_product_have_the_right_types() -> None:
    fields = Customer.model_fields
    assert fields["id"].annotation is UUID
    assert not fields["first_name"].is_required()
    assert fields["first_name"].json_schema_extra == {"personal": "name"}
    assert Message.model_fields["status"].is_required()
    assert Call.model_fields["duration_seconds"].annotation == int | None
    assert DailyMetric.model_fields["value"].annotation is int


def test_hidden_columns_are_not_in_the_models() -> None:
    assert "search" not in Customer.model_fields


def test_only_what_members_may_read_is_there(nasty) -> None:
    assert "secret" not in relation(nasty, "everything")
    assert [f.name for f in nasty.functions] == ["add_parent", "tally"]


def test_value_lists_are_taken_only_when_they_are_the_whole_rule(nasty) -> None:
    parents = relation(nasty, "parents")
    assert parents["kind"].type.choices == ("a", "b")
    assert parents["mixed"].type.choices == ()
    assert relation(nasty, "everything")["tints"].type == catalog.Type(
        "color", True, ("red", "it's blue")
    )


@pytest.mark.parametrize(
    ("view", "not_null", "nullable"),
    [
        ("joined", {"id", "note", "more", "there", "chosen"}, {"kind", "parent_name", "maybe"}),
        ("grouped", {"kind", "n", "everything"}, {"total", "ratio", "filtered"}),
        ("stacked", {"kind", "n"}, {"nothing"}),
    ],
)
def test_views_know_what_can_be_null(nasty, view, not_null, nullable) -> None:
    columns = relation(nasty, view)
    assert {n for n, c in columns.items() if not c.nullable} >= not_null
    assert {n for n, c in columns.items() if c.nullable} >= nullable


def test_views_inherit_values_and_comments(nasty) -> None:
    joined = relation(nasty, "joined")
    assert joined["kind"].type.choices == ("a", "b")
    assert joined["parent_name"].comment == "The name. @personal name"


def test_no_view_of_the_product_gives_null_where_the_model_refuses_it(database) -> None:
    """The tracer against the planner's own word: every not-null claim, checked on real rows."""
    with psycopg.connect(database.url()) as connection:
        connection.execute(
            "insert into organizations (id, name, slug) values "
            "('0197a000-0000-7000-8000-000000000001', 'A', 'a')"
        )
        connection.execute(
            "insert into organization_placements (organization_id) "
            "values ('0197a000-0000-7000-8000-000000000001')"
        )
        connection.execute(
            "insert into businesses (id, organization_id, name, slug, country, currency) values "
            "('0197a000-0000-7000-8000-000000000002', '0197a000-0000-7000-8000-000000000001',"
            " 'B', 'b', 'US', 'USD')"
        )
        connection.execute(
            "insert into customers (business_id, first_name) "
            "values ('0197a000-0000-7000-8000-000000000002', 'Ana')"
        )
        found = catalog.read_catalog(connection)
        seen = 0
        for name in ("customer_summary", "daily_metrics", "performance_metrics"):
            columns = [c.name for c in _columns(found, name) if not c.nullable]
            for row in connection.execute(f"select {', '.join(columns)} from {name}").fetchall():
                assert None not in row, (name, columns)
                seen += 1
        assert seen >= 3


def _columns(found: catalog.Catalog, name: str) -> tuple[catalog.Column, ...]:
    return next(r.columns for r in found.relations if r.name == name)


EVERYTHING = {
    "id": 2**62, "parent_id": None, "class": "c", "from": 1, "1st": 2, "model_x": 3,
    "schema": "s", "copy": "c", "json": {"a": [Decimal("1.10")]}, "_hidden": 4,
    "weird name": "w", "amount": Decimal("12345678901234567.89"), "cents": 5, "ratio": None,
    "tint": "green", "tints": ["red"], "at": "2026-01-01T00:00:00+02:00",
    "local": "2026-01-01T00:00:00", "day": "2026-01-01", "moment": "12:00:00",
    "data": "\\x01", "address": "::1", "path": ["a"], "totals": [1], "during": "[a,b)",
    "took": "1 day", "doubled": Decimal("2.0"), "unknown": "kept",
}  # fmt: skip


def test_nasty_names_and_types_become_a_model(nasty_models) -> None:
    row = nasty_models.Everything.model_validate(EVERYTHING)
    assert (row.class_, row.from_, row.field_1st, row.model_x_) == ("c", 1, 2, 3)
    assert (row.schema_, row.copy_, row.json_, row.field_hidden) == (
        "s", "c", {"a": [Decimal("1.10")]}, 4,
    )  # fmt: skip
    assert row.field_weird_name == "w"
    assert row.amount == Decimal("12345678901234567.89")
    assert row.id == 2**62
    assert row.tint == "green"  # a value of tomorrow
    assert row.at.utcoffset() == datetime.timedelta(hours=2)
    assert row.unknown == "kept"
    assert row.model_dump(by_alias=True)["class"] == "c"


def test_models_never_change(nasty_models) -> None:
    row = nasty_models.Everything.model_validate(EVERYTHING)
    with pytest.raises(ValidationError):
        row.amount = Decimal(1)


def test_a_time_without_a_zone_is_refused(nasty_models) -> None:
    with pytest.raises(ValidationError, match="timezone"):
        nasty_models.Everything.model_validate(EVERYTHING | {"at": "2026-01-01T00:00:00"})


def test_comments_are_what_people_read(nasty_models) -> None:
    assert "Says \"quoted\" and a back\\slash''' too." in nasty_models.Parent.__doc__
    field = nasty_models.Parent.model_fields["name"]
    assert (field.description, field.json_schema_extra) == ("The name.", {"personal": "name"})
    assert nasty_models.Parent.model_fields["note"].description is None


def test_functions_and_rights_become_typed_dictionaries(nasty) -> None:
    text = generate_sdk_models.formatted(render.render_arguments(nasty))
    scope: dict[str, object] = {"__name__": "nasty_arguments"}
    ours = "from tenantry._generated.models import"
    body = "\n".join(line for line in text.splitlines() if not line.startswith(ours))
    exec(compile(body, "nasty_arguments", "exec"), scope)  # noqa: S102  what we just made
    add = scope["AddParentArguments"]
    assert set(add.__annotations__) == {"name", "kind", "class"}
    assert "ParentKind" in str(add.__annotations__["kind"])
    insert = scope["EverythingInsert"]
    assert set(insert.__annotations__) == {
        "amount", "cents", "json", "tint", "tints", "at", "class",
    }  # fmt: skip
    assert set(scope["EverythingUpdate"].__annotations__) == {"class", "amount"}
    assert set(scope["TallyArguments"].__annotations__) == {"at"}


@pytest.mark.parametrize(
    ("relation", "model"),
    [
        ("contact_points", "ContactPoint"), ("businesses", "Business"), ("calls", "Call"),
        ("status_history", "StatusHistory"), ("business_dashboard_data", "BusinessDashboardData"),
        ("companies", "Company"), ("addresses", "Address"), ("status", "Status"),
    ],
)  # fmt: skip
def test_models_have_singular_names(relation: str, model: str) -> None:
    assert naming.class_name(relation) == model


@pytest.mark.parametrize("column", ["class", "schema", "_x", "1st", "model_config", "a b", "json"])
def test_any_column_has_a_name_that_a_model_allows(column: str) -> None:
    name = naming.field_name(column)
    assert name.isidentifier()
    assert not name.startswith("_")
    assert not hasattr(BaseModel, name)


def test_node_trees_are_read_with_their_escapes() -> None:
    (tree,) = view_columns.parse(r"({A :x 1 :name two\ words\) :set (b 1 2) :none <>})")
    assert tree == [
        {"kind": "A", "x": "1", "name": r"two\ words\)", "set": ["b", "1", "2"], "none": "<>"}
    ]


def test_the_generator_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, generate_sdk_models.__file__]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert run.returncode == 2
    assert "--database-url" in run.stderr
