"""Who the caller is: read from the verified token alone, and never an error."""

from __future__ import annotations

import json
import uuid

import pytest

from .conftest import Stage
from .people import ALPHA_ONE
from .probe import run

USER = "3fdb1c1c-90f0-4f0a-8f6e-0d4d2b1f7a11"

MALFORMED = (
    "", " ", "null", "0", "-1", "undefined", "anonymous", "1 or 1=1", "' or ''='", USER + " ",
    " " + USER, USER + "\n", USER[:-1], USER + "0", USER.replace("-", ""), "{" + USER + "}",
    "urn:uuid:" + USER, USER.replace("3", "\uff13"), USER.replace("f", "g"),
    USER.replace("-", "\u2010"), "-" * 36, "-" * 32 + "1234", USER.replace("-", "_"), "\u00e9" * 36,
    "\\" + USER, "%" * 36,
)  # fmt: skip


@pytest.mark.parametrize("subject", MALFORMED)
def test_a_malformed_subject_is_nobody(stage: Stage, subject: str) -> None:
    connection = stage.connection("authenticator")
    connection.execute("set local role authenticated")
    connection.execute(
        "select set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": subject})]
    )
    found = connection.execute("select private.current_user_id()").fetchone()
    rows = connection.execute("select count(*) from public.customers").fetchone()
    connection.rollback()
    assert found == (None,)
    assert rows == (0,)


@pytest.mark.parametrize("subject", [True, 7, None, [], {}, [USER], {"sub": USER}])
def test_a_subject_of_another_type_is_nobody(stage: Stage, subject: object) -> None:
    connection = stage.connection("authenticator")
    connection.execute(
        "select set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": subject})]
    )
    connection.execute("set local role authenticated")
    found = connection.execute("select private.current_user_id()").fetchone()
    connection.rollback()
    assert found == (None,)


@pytest.mark.parametrize("subject", [USER, USER.upper()])
def test_the_token_names_the_user(stage: Stage, subject: str) -> None:
    assert _named_by(stage, "request.jwt.claims", json.dumps({"sub": subject})) == uuid.UUID(USER)


def test_the_setting_of_old_postgrest_versions_names_nobody(stage: Stage) -> None:
    """Two settings could name two users; PostgREST sets one of them since version 9."""
    assert _named_by(stage, "request.jwt.claim.sub", USER) is None


def _named_by(stage: Stage, setting: str, value: str) -> uuid.UUID | None:
    connection = stage.connection("authenticator")
    connection.execute("select set_config(%s, %s, true)", [setting, value])
    connection.execute("set local role authenticated")
    found = connection.execute("select private.current_user_id()").fetchone()
    connection.rollback()
    assert found is not None
    named: uuid.UUID | None = found[0]
    return named


def test_what_the_token_says_about_rights_is_ignored(stage: Stage) -> None:
    """Only the subject counts: no role, no metadata, no business in the token widens anything."""
    connection = stage.connection("authenticator")
    stranger = stage.world.cast["stranger"]
    claims = {
        **stranger.claims,
        "user_role": "owner",
        "business_id": str(ALPHA_ONE.id),
        "app_metadata": {"role": "owner", "business_ids": [str(ALPHA_ONE.id)]},
        "user_metadata": {"role": "service_role", "is_admin": True},
        "permissions": ["customers.read"],
    }
    connection.execute("set local role authenticated")
    connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
    connection.execute("savepoint cell")
    for table in ("customers", "businesses", "audit_logs", "conversations"):
        assert run(connection, f"select 1 from public.{table}".encode()).rows == 0
    connection.rollback()


@pytest.mark.parametrize("role", ["postgres", "supabase_admin", "pg_read_all_data", "integrator"])
def test_the_login_of_the_api_becomes_nobody_else(stage: Stage, role: str) -> None:
    connection = stage.connection("authenticator")
    connection.execute("savepoint cell")
    assert run(connection, f"set local role {role}".encode()).sqlstate == "42501"
    connection.rollback()


def test_without_a_role_the_login_may_do_nothing(stage: Stage) -> None:
    """A token whose role is `none` or `authenticator` leaves the request to the login role."""
    connection = stage.connection("authenticator")
    connection.execute(
        "select set_config('request.jwt.claims', %s, true)",
        [json.dumps(stage.world.cast["owner"].claims)],
    )
    connection.execute("savepoint cell")
    for statement in (
        "select 1 from public.customers",
        "select 1 from public.subscription_plans",
        "select public.my_businesses()",
        "select private.current_user_id()",
        "insert into public.customers default values",
    ):
        assert run(connection, statement.encode()).sqlstate == "42501", statement
    connection.rollback()


def test_a_function_of_another_tenant_is_no_way_to_become_somebody(stage: Stage) -> None:
    """Definer functions keep the caller: is_trusted_caller() is false inside them for a member."""
    connection = stage.connection("authenticator")
    connection.execute("set local role authenticated")
    connection.execute(
        "select set_config('request.jwt.claims', %s, true)",
        [json.dumps({"sub": str(stage.world.cast["stranger"].user_id), "role": "service_role"})],
    )
    connection.execute("savepoint cell")
    owner = stage.world.cast["owner"].user_id
    ask = f"select public.can_access_business('{owner}', '{ALPHA_ONE.id}')"
    assert run(connection, ask.encode()).keys == {("f",)}
    connection.rollback()
