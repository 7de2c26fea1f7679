"""Who was erased and what was revoked after a backup stays so when it is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from tenantry_cli.backup.log import FILE, fleet_log, read_log, write_log
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import restore_tenant
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.fleet.fleet import Fleet

from .conftest import DENTAL, OWNER, STAFF, customers, drop_tenant, place


def one_row(fleet: Fleet, database: str, query: str, *values: object) -> dict[str, Any]:
    with fleet.session(database) as connection:
        row = connection.execute(query, values).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row


def customer_with_calls(fleet: Fleet) -> UUID:
    """A customer of the demo story who has called."""
    home = fleet.tenant("bluebird").home
    row = one_row(
        fleet,
        home.database,
        f'select customer_id from "{home.schema}".calls '
        "where customer_id is not null order by customer_id limit 1",
    )
    found: UUID = row["customer_id"]
    return found


def erase(fleet: Fleet, customer: UUID) -> None:
    home = fleet.tenant("bluebird").home
    with fleet.session(home.database) as connection:
        gone = connection.execute(
            sql.SQL("delete from {} where id = %s").format(
                sql.Identifier(home.schema, "customers")
            ),
            (customer,),
        ).rowcount
    assert gone == 1


def traces(fleet: Fleet, customer: UUID) -> dict[str, int]:
    home = fleet.tenant("bluebird").home
    found = {}
    for table, column in (
        ("customers", "id"),
        ("contact_points", "customer_id"),
        ("calls", "customer_id"),
        ("conversations", "customer_id"),
    ):
        found[table] = one_row(
            fleet,
            home.database,
            f'select count(*) as rows from "{home.schema}".{table} where {column} = %s',
            customer,
        )["rows"]
    return found


@pytest.mark.parametrize("isolation", ["pooled", "schema", "database"])
def test_erased_stays_erased(fleet: Fleet, directory: Path, isolation: str) -> None:
    place(fleet, "bluebird", isolation)
    customer = customer_with_calls(fleet)
    before = traces(fleet, customer)
    assert before["customers"] == 1
    assert before["contact_points"] > 0
    seen = customers(fleet, "bluebird", OWNER)
    path = archive_tenant(fleet, "bluebird", directory)
    erase(fleet, customer)
    restored = restore_tenant(fleet, path, directory=directory, replace=True)
    assert restored.erased_again == 1
    assert set(traces(fleet, customer).values()) == {0}
    assert customers(fleet, "bluebird", OWNER) == seen - 1
    home = fleet.tenant("bluebird").home
    # What follows from a customer follows from the erasure too, and nobody else sees it open.
    drift = one_row(
        fleet, home.database, f'select count(*) as rows from "{home.schema}".metric_drift'
    )
    assert drift["rows"] == 0


def test_the_log_beside_the_archives_is_enough(fleet: Fleet, directory: Path) -> None:
    """Erased, saved in the log, and then every database that knew of it is gone."""
    customer = customer_with_calls(fleet)
    path = archive_tenant(fleet, "bluebird", directory)
    erase(fleet, customer)
    log, unreachable = fleet_log(fleet)
    assert unreachable == []
    file = write_log(directory, log)
    assert file.name == FILE
    assert file.stat().st_mode & 0o777 == 0o600
    drop_tenant(fleet, "bluebird")
    assert fleet_log(fleet)[0].erased([DENTAL]) == []
    restored = restore_tenant(fleet, path, directory=directory, isolation="database")
    assert restored.erased_again == 1
    assert set(traces(fleet, customer).values()) == {0}


def test_a_tenant_that_goes_as_a_whole_is_not_erased(fleet: Fleet, directory: Path) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    with fleet.session() as main:
        main.execute("delete from public.organizations where slug = 'bluebird'")
    assert fleet_log(fleet)[0].erased([DENTAL]) == []
    assert restore_tenant(fleet, path, directory=directory).erased_again == 0


def test_a_damaged_log_stops_a_restore(fleet: Fleet, directory: Path) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    (directory / FILE).write_text('{"kind": "erasure"}\n')
    with pytest.raises(BackupError, match="line 1 is damaged"):
        restore_tenant(fleet, path, directory=directory, replace=True)
    assert fleet.tenant("bluebird").state == "active"


def test_lines_of_the_log_are_only_added(fleet: Fleet, directory: Path) -> None:
    erase(fleet, customer_with_calls(fleet))
    write_log(directory, fleet_log(fleet)[0])
    first = (directory / FILE).read_text().splitlines()
    erase(fleet, customer_with_calls(fleet))
    write_log(directory, fleet_log(fleet)[0])
    second = (directory / FILE).read_text().splitlines()
    assert set(first) < set(second)
    assert read_log(directory / FILE).erasures.keys() == fleet_log(fleet)[0].erasures.keys()


def _api_key(fleet: Fleet) -> UUID:
    membership = one_row(
        fleet,
        fleet.main,
        "select id from public.business_memberships where business_id = %s and user_id = %s",
        DENTAL,
        OWNER,
    )["id"]
    row = one_row(
        fleet,
        fleet.main,
        "insert into public.api_keys (business_id, membership_id, name, prefix, scopes) "
        "values (%s, %s, 'a machine', 'tnk_test', '{customers.read}') returning id",
        DENTAL,
        membership,
    )
    with fleet.session() as main:
        main.execute(
            "insert into private.api_key_secrets values (%s, %s, sha256('a secret'))",
            (DENTAL, row["id"]),
        )
    found: UUID = row["id"]
    return found


@pytest.mark.parametrize("is_gone", [False, True])
def test_revoked_stays_revoked(fleet: Fleet, directory: Path, is_gone: bool) -> None:
    key, kept = _api_key(fleet), _api_key_of_another_name(fleet)
    path = archive_tenant(fleet, "bluebird", directory)
    assert customers(fleet, "bluebird", STAFF) > 0
    with fleet.session() as main:
        main.execute("update public.api_keys set revoked_at = now() where id = %s", (key,))
        main.execute(
            "update public.business_memberships set status = 'removed' where user_id = %s", (STAFF,)
        )
    assert customers(fleet, "bluebird", STAFF) == 0
    if is_gone:
        drop_tenant(fleet, "bluebird")
    restored = restore_tenant(fleet, path, directory=directory, replace=not is_gone)
    assert restored.left_out
    assert customers(fleet, "bluebird", OWNER) > 0
    assert customers(fleet, "bluebird", STAFF) == 0
    usable = "select count(*) as rows from public.api_keys k join private.api_key_secrets s "
    usable += "on s.api_key_id = k.id where k.id = %s and k.revoked_at is null"
    assert one_row(fleet, fleet.main, usable, key)["rows"] == 0
    assert one_row(fleet, fleet.main, usable, kept)["rows"] == 1


def _api_key_of_another_name(fleet: Fleet) -> UUID:
    membership = one_row(
        fleet,
        fleet.main,
        "insert into public.api_keys (business_id, membership_id, name, prefix, scopes) "
        "select business_id, id, 'another', 'tnk_other', '{customers.read}' "
        "from public.business_memberships where business_id = %s and user_id = %s returning id",
        DENTAL,
        OWNER,
    )
    found: UUID = membership["id"]
    with fleet.session() as main:
        main.execute(
            "insert into private.api_key_secrets values (%s, %s, sha256('another secret'))",
            (DENTAL, found),
        )
    return found


def test_a_role_that_was_taken_away_stays_away(fleet: Fleet, directory: Path) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    with fleet.session() as main:
        main.execute(
            "delete from public.membership_roles r using public.business_memberships m "
            "where (m.business_id, m.id) = (r.business_id, r.membership_id) and m.user_id = %s",
            (STAFF,),
        )
    drop_tenant(fleet, "bluebird")
    restore_tenant(fleet, path, directory=directory)
    assert customers(fleet, "bluebird", STAFF) == 0
    assert customers(fleet, "bluebird", OWNER) > 0


@pytest.mark.parametrize("isolation", ["pooled", "database"])
def test_what_was_unshared_stays_unshared(fleet: Fleet, directory: Path, isolation: str) -> None:
    place(fleet, "bluebird", isolation)
    customer = customer_with_calls(fleet)
    home = fleet.tenant("bluebird").home
    lists = "select count(*) as rows from public.access_control_lists where resource_id = %s"
    with fleet.session(home.database) as connection:
        for effect in ("allow", "deny"):
            connection.execute(
                "insert into public.access_control_lists "
                "(business_id, resource, resource_id, membership_id, verbs, effect) "
                "select c.business_id, 'customers', c.id, m.id, '{read}', %s "
                "from public.customers c join public.business_memberships m "
                "on m.business_id = c.business_id where c.id = %s order by m.id limit 1",
                (effect, customer),
            )
    path = archive_tenant(fleet, "bluebird", directory)
    with fleet.session(home.database) as connection:
        connection.execute(
            "delete from public.access_control_lists where resource_id = %s and effect = 'allow'",
            (customer,),
        )
    restore_tenant(fleet, path, directory=directory, replace=True)
    assert one_row(fleet, home.database, lists, customer)["rows"] == 1
    kept = lists + " and effect = 'deny'"
    assert one_row(fleet, home.database, kept, customer)["rows"] == 1
