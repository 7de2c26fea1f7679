"""A restore whose policies, grants or row security differ from what was shipped stays closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import restore_tenant
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.fleet.fleet import Fleet

from .conftest import OWNER, customers, place

FAULTS = {
    "a policy dropped": "drop policy customers_select on {}.customers",
    "a policy that asks for the rights of the pooled tables": """
        do $$ begin execute 'alter policy customers_select on {0}.customers using (' || (
          select regexp_replace(pg_get_expr(p.polqual, p.polrelid), 'home_schema = ''[^'']*''',
            'home_schema = ''public''') from pg_policy p
          where p.polname = 'customers_select' and p.polrelid = '{0}.customers'::regclass) || ')';
        end $$""",
    "row security off": "alter table {}.customers disable row level security",
    "row security not forced": "alter table {}.customers no force row level security",
    "a grant to visitors": "grant select on {}.customers to anon",
    "a function open to all": "grant execute on function {}.tg_audit() to public",
    "a guard dropped": "drop trigger _010_guard on {}.customers",
    "a key dropped": "alter table {}.calls drop constraint calls_customer_fkey",
}


@pytest.mark.parametrize("isolation", ["pooled", "database"])
@pytest.mark.parametrize("fault", ["a policy dropped", "row security off"])
def test_a_database_that_is_not_protected_is_not_served(
    fleet: Fleet, directory: Path, isolation: str, fault: str
) -> None:
    place(fleet, "bluebird", isolation)
    path = archive_tenant(fleet, "bluebird", directory)
    _refused(fleet, directory, path, FAULTS[fault])


@pytest.mark.slow
def test_a_schema_that_is_not_protected_is_not_served(fleet: Fleet, directory: Path) -> None:
    place(fleet, "bluebird", "schema")
    path = archive_tenant(fleet, "bluebird", directory)
    seen = customers(fleet, "bluebird", OWNER)
    home = fleet.tenant("bluebird").home
    for statement in FAULTS.values():
        _refused(fleet, directory, path, statement)
        # The remedy: without the schema, it is made anew from the migrations.
        with fleet.session(home.database) as connection:
            connection.execute(f'drop schema "{home.schema}" cascade')  # type: ignore[arg-type]
        restore_tenant(fleet, path, directory=directory)
        assert customers(fleet, "bluebird", OWNER) == seen


def _refused(fleet: Fleet, directory: Path, path: Path, statement: str) -> None:
    home = fleet.tenant("bluebird").home
    with fleet.connect(home.database) as connection:
        connection.execute(statement.format(f'"{home.schema}"'))
    with pytest.raises(BackupError, match="not protected as it was shipped") as refused:
        restore_tenant(fleet, path, directory=directory, replace=True)
    assert any(name in str(refused.value) for name in ("customers", "tg_audit", "calls"))
    assert fleet.tenant("bluebird").state == "failed"
    with fleet.session(home.database) as connection:
        open_to = connection.execute(
            "select bool_or(is_readable) as readable from private.business_directory "
            "where organization_id = %s",
            (fleet.tenant("bluebird").id,),
        ).fetchone()
    assert open_to == {"readable": False}
