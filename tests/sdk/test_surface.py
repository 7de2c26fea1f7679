"""The two halves are one; what functions take is what the SDK offers; the package is typed."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import generate_sync
import pytest

import tenantry
from tenantry import AsyncTenantry, Tenantry
from tenantry._generated import arguments

RESOURCES = [
    "auth", "organizations", "businesses", "members", "customers", "channels", "calls",
    "conversations", "messages", "metrics", "roles", "departments", "shares", "access", "api_keys",
    "sessions", "domains", "fleet",
]  # fmt: skip


def test_the_synchronous_half_is_fresh() -> None:
    stale = [path.name for path in generate_sync.stale(generate_sync.generate())]
    assert stale == [], "run: python tools/generate_sync.py"


def test_a_stale_half_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_async").mkdir()
    (tmp_path / "_sync").mkdir()
    (tmp_path / "_sync" / "gone.py").write_text("")
    (tmp_path / "_async" / "x.py").write_text("async def f() -> None:\n    await g()\n")
    monkeypatch.setattr(generate_sync, "PACKAGE", tmp_path)
    monkeypatch.setattr(generate_sync, "formatted", lambda sources: sources)
    assert [p.name for p in generate_sync.stale(generate_sync.generate())] == ["x.py", "gone.py"]


def test_nothing_asynchronous_is_left_over() -> None:
    text = generate_sync.synchronous(
        "import asyncio\n\n\nclass AsyncX:\n"
        "    f: Callable[[int], Awaitable[AsyncPage[Row]]]\n\n"
        "    async def __aenter__(self) -> AsyncX:\n"
        "        async with asyncio.Lock():\n"
        "            return await self.f(1)\n",
        "x.py",
    )
    assert "async" not in text.split("\n", 1)[1].lower()
    assert "await" not in text.lower()
    assert "f: Callable[[int], Page[Row]]" in text


def public(thing: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(thing, inspect.isfunction)
        if not name.startswith("_")
    }


def client(kind: type) -> object:
    return kind("http://api.test", "key")


@pytest.mark.parametrize("resource", RESOURCES)
def test_both_clients_have_the_same_calls(resource: str) -> None:
    sync, asynchronous = (
        public(type(getattr(client(kind), resource))) for kind in (Tenantry, AsyncTenantry)
    )
    assert list(sync) == list(asynchronous)
    for name, signature in sync.items():
        assert str(signature.replace(return_annotation="")) == str(
            asynchronous[name].replace(return_annotation="")
        ).replace("Async", "")


@pytest.mark.parametrize(
    ("resource", "method", "taken"),
    [
        ("customers", "create", arguments.CreateCustomerArguments),
        ("customers", "find", arguments.FindCustomerArguments),
        ("calls", "log", arguments.LogCallArguments),
        ("conversations", "open", arguments.OpenConversationArguments),
        ("conversations", "mark_read", arguments.MarkConversationReadArguments),
        ("messages", "record", arguments.RecordMessageArguments),
        ("members", "invite", arguments.InviteMemberArguments),
        ("members", "accept", arguments.AcceptInvitationArguments),
        ("members", "change_roles", arguments.ChangeMemberRolesArguments),
        ("members", "remove", arguments.RemoveMemberArguments),
        ("members", "revoke", arguments.RevokeInvitationArguments),
        ("members", "resend", arguments.ResendInvitationArguments),
        ("members", "invite_portal_customer", arguments.InvitePortalCustomerArguments),
        ("members", "suspend", arguments.SuspendMemberArguments),
        ("members", "reactivate", arguments.ReactivateMemberArguments),
        ("members", "transfer_ownership", arguments.TransferOwnershipArguments),
        ("members", "set_permission", arguments.SetMemberPermissionArguments),
        ("members", "clear_permission", arguments.ClearMemberPermissionArguments),
        ("roles", "create", arguments.CreateRoleArguments),
        ("roles", "update", arguments.UpdateRoleArguments),
        ("roles", "delete", arguments.DeleteRoleArguments),
        ("departments", "create", arguments.CreateDepartmentArguments),
        ("departments", "update", arguments.UpdateDepartmentArguments),
        ("departments", "delete", arguments.DeleteDepartmentArguments),
        ("departments", "assign", arguments.AssignDepartmentRoleArguments),
        ("departments", "unassign", arguments.RemoveDepartmentRoleArguments),
        ("shares", "share", arguments.ShareRecordArguments),
        ("shares", "unshare", arguments.UnshareRecordArguments),
        ("api_keys", "create", arguments.CreateApiKeyArguments),
        ("api_keys", "revoke", arguments.RevokeApiKeyArguments),
        ("sessions", "revoke", arguments.RevokeSessionArguments),
        ("sessions", "revoke_others", arguments.RevokeOtherSessionsArguments),
        ("domains", "add", arguments.AddDomainArguments),
        ("domains", "remove", arguments.RemoveDomainArguments),
        ("organizations", "set_mfa_requirement", arguments.SetMfaRequirementArguments),
        ("organizations", "create", arguments.CreateOrganizationArguments),
        ("businesses", "create", arguments.CreateBusinessArguments),
        ("channels", "create", arguments.ChannelInsert),
    ],
)
def test_a_call_takes_what_the_database_takes(resource: str, method: str, taken: type) -> None:
    offered = set(
        inspect.signature(getattr(getattr(client(Tenantry), resource), method)).parameters
    )
    # The business is the one in use; whether a new channel is active is decided later.
    assert offered == set(taken.__annotations__) - {"business_id", "is_active"}


def test_everything_public_says_what_it_is() -> None:
    for kind in (Tenantry, AsyncTenantry):
        for name in RESOURCES:
            resource = type(getattr(client(kind), name))
            for method, member in inspect.getmembers(resource, inspect.isfunction):
                assert method.startswith("_") or inspect.getdoc(member), f"{name}.{method}"


def test_the_package_is_typed_and_has_the_version_of_the_project() -> None:
    package = Path(tenantry.__file__).parent
    assert (package / "py.typed").exists()
    project = tomllib.loads((package.parents[1] / "pyproject.toml").read_text())["project"]
    assert tenantry.__version__ == project["version"]
