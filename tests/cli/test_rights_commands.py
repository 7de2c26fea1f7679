"""members, roles, api-keys, access: as users type them, on a running stack."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tenantry import Tenantry
from tenantry_cli.errors import TenantryError
from tenantry_cli.main import app
from tenantry_cli.output import console
from tenantry_cli.rights.work import moment

PASSWORD = "tenantry-demo"
OWNER = {"TENANTRY_EMAIL": "owner@bluebird.example", "TENANTRY_PASSWORD": PASSWORD}
STAFF = {**OWNER, "TENANTRY_EMAIL": "staff@bluebird.example"}

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def client(local_stack) -> Iterator[Tenantry]:
    with Tenantry(local_stack.origin, local_stack.keys.publishable_key) as one:
        one.auth.sign_in(email=OWNER["TENANTRY_EMAIL"], password=PASSWORD)
        one.use("bluebird-dental")
        yield one


@pytest.fixture
def command(local_stack, monkeypatch) -> Command:
    """Runs `tenantry` in Bluebird Dental with the environment of somebody."""
    monkeypatch.setattr(console, "width", 300)

    def run(
        *arguments: object, who: dict[str, str] = OWNER, in_: str = "bluebird-dental"
    ) -> Result:
        settings = dict.fromkeys(name for name in os.environ if name.startswith("TENANTRY_"))
        keys = {
            "TENANTRY_API_URL": local_stack.origin,
            "TENANTRY_API_KEY": local_stack.keys.publishable_key,
        }
        given = [*map(str, arguments), "--business", in_]
        done = CliRunner().invoke(app, given, env=settings | keys | who)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


def refused(done: Result, told: str) -> None:
    assert done.exit_code == 1, done.stdout
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.stack
def test_members_are_listed_and_their_roles_replaced(command: Command, client: Tenantry) -> None:
    shown = command("members", "list")
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if "Sana Tariq" in line]
    assert "staff" in line
    done = command("members", "roles", "sana tariq", "manager", "viewer", "-o", "json")
    assert json.loads(done.stdout)["roles"] == ["manager", "viewer"]
    assert "Sana Tariq is now staff" in command("members", "roles", "Sana Tariq", "staff").stdout
    refused(command("members", "roles", "Sana Tariq", "pirate"), "There is no role 'pirate' here.")
    refused(command("members", "roles", "Nobody", "staff"), "no member is named 'Nobody'")


@pytest.mark.stack
def test_a_member_comes_and_goes(command: Command, client: Tenantry, local_stack) -> None:
    email = f"{uuid4().hex[:10]}@example.com"
    desk = client.departments.create(name=f"Desk {uuid4().hex[:6]}", kind="operations")
    issued = command("members", "invite", email, "--role", "staff", "--department", desk.name)
    assert issued.exit_code == 0, issued.stderr
    assert f"Send this token to {email}" in issued.stderr
    with Tenantry(local_stack.origin, local_stack.keys.publishable_key) as guest:
        guest.auth.sign_up(email=email, password="correct-horse-7", full_name="Gil Guest")
        membership = guest.members.accept(issued.stdout.strip())
        listed = {
            one["id"]: one for one in json.loads(command("members", "list", "-o", "json").stdout)
        }
        assert listed[str(membership.id)]["departments"] == [f"{desk.name} (staff)"]
        assert command("members", "suspend", membership.id).exit_code == 0
        assert guest.businesses.mine() == []
        everybody = json.loads(command("members", "list", "--all", "-o", "json").stdout)
        assert "suspended" in {one["status"] for one in everybody}
        assert command("members", "reactivate", membership.id).exit_code == 0
        assert len(guest.businesses.mine()) == 1
        assert "Gil Guest is removed" in command("members", "remove", membership.id).stdout
    client.departments.delete(desk.id)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --role for a member, or --customer for the portal"),
        (("--role", "staff", "--customer", str(uuid4())), "give --role for a member, or"),
        (("--customer", str(uuid4())), "There is no such customer in this business."),
        (("--role", "staff", "--department", "Moon"), "no department is named 'Moon'"),
        (("--role", "customer"), "Customers are invited with invite_portal_customer()."),
    ],
)
def test_an_invitation_that_cannot_be(command: Command, arguments, told: str) -> None:
    refused(command("members", "invite", "x@example.com", *arguments), told)


@pytest.mark.stack
def test_a_permission_is_given_shown_and_cleared(command: Command) -> None:
    given = ("members", "permission", "Victor Lund")
    done = command(*given, "audit.read", "--expires", "12h", "--reason", "Audit", "-o", "json")
    ends = datetime.datetime.fromisoformat(json.loads(done.stdout)["expires_at"])
    assert ends > datetime.datetime.now(datetime.UTC)
    (row,) = json.loads(command(*given, "-o", "json").stdout)
    assert (row["permission_code"], row["effect"], row["reason"]) == (
        "audit.read",
        "allow",
        "Audit",
    )
    assert "audit.read is denied" in command(*given, "audit.read", "--deny").stdout
    assert "the roles decide again" in command(*given, "audit.read", "--clear").stdout
    assert "no single permissions" in command(*given).stdout
    refused(command(*given, "audit.read", "--clear"), "has no such single permission")
    refused(command(*given, "customers.fly"), "There is no permission 'customers.fly'.")
    refused(command(*given, "audit.read", "--expires", "tomorrow"), "use a while such as 12h")
    refused(command(*given, "audit.read", "--expires", "2020-01-01T00:00Z"), "in the future")
    refused(command(*given, "--deny"), "name the permission")
    refused(command(*given, "audit.read", "--clear", "--deny"), "goes alone")
    refused(command(*given, "audit.read", who=STAFF), "You do not hold roles.write")


@pytest.mark.stack
def test_a_role_is_made_and_deleted(command: Command) -> None:
    code = f"desk_{uuid4().hex[:6]}"
    grants = ("customers.read:own", "calls.read:business:grantable", "metrics.read")
    options = [part for grant in grants for part in ("-p", grant)]
    done = command("roles", "create", code, *options, "--inherits", "viewer")
    assert f"role {code} is made" in done.stdout, done.stderr
    roles = {one["code"]: one for one in json.loads(command("roles", "list", "-o", "json").stdout)}
    assert roles[code]["permissions"] == {
        "calls.read": {"scope": "business", "grantable": True},
        "customers.read": {"scope": "own", "grantable": False},
        "metrics.read": {"scope": "business", "grantable": False},
    }
    assert (roles[code]["inherits"], roles["owner"]["kind"]) == (["viewer"], "system")
    assert "customers.read:own" in command("roles", "list").stdout
    refused(command("roles", "create", code), "This business has a role with this code.")
    refused(command("roles", "create", "x", "-p", "a:b:c"), "write CODE, CODE:SCOPE or")
    assert f"role {code} is deleted" in command("roles", "delete", code).stdout
    refused(command("roles", "delete", code), "There is no row")
    refused(command("roles", "delete", "owner"), "owner is a system role, which stays")


@pytest.mark.stack
def test_a_key_is_printed_once_and_revoked(command: Command) -> None:
    issued = command("api-keys", "create", "Job", "-s", "customers.read", "--expires", "90d")
    key = issued.stdout.strip()
    assert key.startswith("tnk_")
    assert len(key) == 68
    assert "shown once" in issued.stderr
    shown = command("api-keys", "list").stdout
    assert key[:12] in shown
    assert key not in shown
    unknown = command("api-keys", "revoke", key)
    refused(unknown, "no open key has this id or prefix")
    assert key not in unknown.stderr
    assert f"Job ({key[:12]}) is revoked" in command("api-keys", "revoke", key[:12]).stdout
    assert key[:12] not in command("api-keys", "list").stdout
    assert key[:12] in command("api-keys", "list", "--all").stdout
    refused(command("api-keys", "create", "x", "-s", "members.write"), "a key can have")
    assert "no API keys that you may see" in command("api-keys", "list", who=STAFF).stdout
    refused(command("api-keys", "create", "x", "-s", "customers.read", who=STAFF), "api_keys.write")


@pytest.mark.stack
def test_a_key_takes_the_place_of_a_sign_in(command: Command) -> None:
    issued = json.loads(
        command("api-keys", "create", "CLI", "-s", "customers.read", "-o", "json").stdout
    )
    machine = {"TENANTRY_API_KEY": issued["key"]}
    mine = json.loads(command("access", "permissions", "-o", "json", who=machine).stdout)
    assert [one["permission"] for one in mine] == ["customers.read"]
    refused(
        command("members", "invite", "x@example.com", "--role", "viewer", who=machine),
        "You do not hold members.write in this business.",
    )
    command("api-keys", "revoke", issued["id"])
    # The gateway refuses it within a minute; until then it has no business any more.
    ended = command("access", "permissions", who=machine)
    assert (ended.exit_code, ended.stdout) == (1, "")


@pytest.mark.stack
def test_access_is_listed_and_explained(command: Command, client: Tenantry) -> None:
    mine = json.loads(command("access", "permissions", "-o", "json", who=STAFF).stdout)
    assert "customers.read" in {one["permission"] for one in mine}
    customer = client.customers.list().all(limit=1)[0]
    said = command("access", "explain", "customers", customer.id, who=STAFF)
    assert said.exit_code == 0
    assert "allowed  select on customers" in said.stdout
    assert "Your role staff carries customers.read." in said.stdout
    kept = command("access", "explain", "customers", customer.id, "delete", who=STAFF)
    assert kept.exit_code == 0
    assert "refused  delete on customers" in kept.stdout
    as_json = command("access", "explain", "customers", customer.id, "delete", "-o", "json")
    assert json.loads(as_json.stdout)["allowed"] is True
    refused(command("access", "explain", "pirates", customer.id), "table is not one with rows")


@pytest.mark.stack
def test_what_cannot_be_is_refused_in_one_line(command: Command) -> None:
    refused(command("roles", "list", in_="copperline-print"), "you have no business 'copp")
    refused(command("roles", "list", "-o", "env"), "--output must be pretty or json here")
    refused(command("roles", "list", who={}), "as whom? Give --email")
    wrong = {**OWNER, "TENANTRY_PASSWORD": "wrong"}
    refused(command("access", "permissions", who=wrong), "Invalid login credentials")


def test_a_moment_is_a_while_or_a_time_with_its_zone() -> None:
    before = datetime.datetime.now(datetime.UTC)
    in_a_week = moment("1w", "--expires")
    assert in_a_week is not None
    assert datetime.timedelta(days=7) <= in_a_week - before < datetime.timedelta(days=7, minutes=1)
    assert moment("2027-01-31T12:00+01:00", "--expires") == datetime.datetime(
        2027, 1, 31, 11, tzinfo=datetime.UTC
    )
    for wrong in ("2027-01-31T12:00", "2027-01-31", "soon", "-1d", "1y"):
        with pytest.raises(TenantryError, match="--expires"):
            moment(wrong, "--expires")
