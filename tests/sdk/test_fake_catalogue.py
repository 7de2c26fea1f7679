"""The permissions, roles and templates of the fake are those of the migrations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tenantry.testing import FakeTenantry


@pytest.fixture(scope="module")
def database(module_database) -> Iterator[psycopg.Connection[Any]]:
    with module_database.connect() as connection:
        yield connection


def test_permissions(database) -> None:
    query = "select code, description, is_record_scoped, for_api_keys from permissions"
    fake = {
        (p.code, p.description, p.is_record_scoped, p.for_api_keys)
        for p in FakeTenantry().roles.permissions()
    }
    assert fake == set(database.execute(query))


def test_system_roles(database) -> None:
    fake = {
        (role.code, role.name, role.rank, code, grant.scope, grant.grantable)
        for role in FakeTenantry().roles.list()
        for code, grant in role.permissions.items()
    }
    query = """
      select r.code, r.name, r.rank, p.permission_code, p.scope, p.grantable
      from roles r join role_permissions p on p.role_id = r.id where r.business_id is null"""
    assert fake == set(database.execute(query))


def test_templates(database) -> None:
    fake = {t.code: (t.name, t.permissions) for t in FakeTenantry().roles.templates()}
    query = "select code, name, permissions from permission_templates where business_id is null"
    assert fake == {code: (name, given) for code, name, given in database.execute(query)}
