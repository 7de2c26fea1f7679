"""Comparing a database with the shipped list: what closes the gate, what is a team's own."""

from __future__ import annotations

import json

import pytest

from tenantry_gateway.boot_facts import (
    SHIPPED,
    Fact,
    compare,
    parse_facts,
    read_expected,
    written,
)

TABLE = Fact("policies", "public.calls", "1", "none")
POLICY = Fact("policies", "public.calls calls_select", "2", "widens")
GRANT = Fact("grants", "public.calls to authenticated", "3", "widens")
FUNCTION = Fact("functions", "public.log_call(uuid,text)", "4", "none")
SHIPPED_FACTS = [TABLE, POLICY, GRANT, FUNCTION]
EXPECTED = json.loads(written(SHIPPED_FACTS))


def differences(*facts: Fact) -> tuple[str, ...]:
    return compare(EXPECTED, [*SHIPPED_FACTS, *facts]).differences


def test_equal():
    found = compare(EXPECTED, reversed(SHIPPED_FACTS))
    assert (found.differences, found.unknown) == ((), ())


def test_missing_and_different():
    changed = Fact("policies", "public.calls calls_select", "9", "widens")
    found = compare(EXPECTED, [TABLE, changed, FUNCTION])
    assert found.differences == (
        "grants: public.calls to authenticated is missing",
        "policies: public.calls calls_select differs",
    )


def test_a_second_form_of_a_shipped_name_differs():
    assert differences(Fact("policies", "public.calls", "9", "none")) == (
        "policies: public.calls differs",
    )


@pytest.mark.parametrize(
    ("section", "name", "risk", "reason"),
    [
        ("policies", "public.notes", "open", "row security is not enabled and forced"),
        ("policies", "public.calls more", "widens", "one more policy on a shipped table"),
        ("policies", 'public.calls "a b"', "widens", "one more policy on a shipped table"),
        ("grants", "public.notes to anon", "open", "open to visitors or to everybody"),
        ("grants", "public.calls to integrator", "widens", "one more grant on a shipped object"),
        (
            "grants",
            "public.log_call(uuid,text) to integrator",
            "widens",
            "one more grant on a shipped object",
        ),
        ("grants", "public.calls partition to x", "widens", "one more grant on a shipped object"),
        ("functions", "public.f()", "open", "SECURITY DEFINER without a pinned search_path"),
        ("views", "public.v", "open", "does not run as its caller"),
        ("roles", "authenticated in service_role", "open", "changes what an API role is"),
        ("settings", "authenticator set pgrst.x", "open", "changes what a request means"),
        ("surprises", "x", "open", "weakens the database"),
        ("policies", "public.notes", "unheard of", "weakens the database"),
    ],
)
def test_extra_objects_that_weaken(section, name, risk, reason):
    extra = differences(Fact(section, name, "9", risk))
    assert extra == (f"{section}: {name} is extra ({reason})",)


@pytest.mark.parametrize(
    ("section", "name", "risk"),
    [
        ("policies", "public.notes", "none"),
        ("policies", "public.notes notes_select", "widens"),
        ("policies", "public.calls narrower", "none"),
        ("policies", "public.calls_more mine", "widens"),
        ("grants", "public.notes to authenticated", "widens"),
        ("functions", "public.f()", "none"),
        ("migrations", "20990101000000", "none"),
    ],
)
def test_extra_objects_of_a_team_are_only_named(section, name, risk):
    found = compare(EXPECTED, [*SHIPPED_FACTS, Fact(section, name, "9", risk)])
    assert found.differences == ()
    assert found.unknown == (f"{section}: {name}",)


def test_the_worst_form_of_an_extra_object_counts():
    forms = [
        Fact("policies", "public.notes", str(n), risk) for n, risk in enumerate(("none", "open"))
    ]
    assert len(differences(*forms)) == 1


def test_written_is_sorted_and_refuses_two_forms():
    assert written(SHIPPED_FACTS) == written(reversed(SHIPPED_FACTS))
    with pytest.raises(ValueError, match=r"public\.calls occurs in two forms"):
        written([TABLE, Fact("policies", "public.calls", "9", "none")])


@pytest.mark.parametrize("rows", [{}, None, [1], [{}], [{"section": "a"}]])
def test_rows_that_are_none(rows):
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_facts(rows)


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', "nonsense", ""])
def test_a_list_that_cannot_be_read(tmp_path, text):
    path = tmp_path / "expected.json"
    path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - json's own message
        read_expected(path)


def test_the_shipped_list_holds_every_section():
    assert SHIPPED.exists()
    assert set(read_expected()) == {
        *("policies", "grants", "functions", "triggers", "views", "constraints", "roles"),
        "migrations",
    }
