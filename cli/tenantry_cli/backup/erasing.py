"""Erasing again, in restored rows, whoever was erased since they were saved."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from psycopg import sql

from tenantry_cli.backup.log import Erasure
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.fleet.fleet import Connection

_NOTE = """
insert into {erasures} (business_id, resource, resource_id, erased_at) values (%s, %s, %s, %s)
on conflict do nothing
"""
_GONE = """
{customers} c where (c.business_id, c.id) in (select e.business_id, e.resource_id from {erasures} e
where e.resource = 'customers' and e.business_id = any (%s))
"""
_UNMERGE = """
update {customers} m set merged_into_id = null where m.business_id = any (%s)
  and exists (select from {gone} and (c.business_id, c.id) = (m.business_id, m.merged_into_id))
"""


def erase_again(
    place: Connection,
    organization_id: UUID,
    schema: str,
    businesses: Sequence[UUID],
    erasures: Sequence[Erasure],
) -> int:
    """Erase in the caller's transaction; returns how many customers there were. Records that
    are no longer shared are not shared again either.

    Whenever somebody was erased: ids are never used twice. Raises BackupError.
    """
    names = {
        "customers": sql.Identifier(schema, "customers"),
        "erasures": sql.Identifier(schema, "erasures"),
    }
    gone = sql.SQL(_GONE).format(**names)
    wanted = list(businesses)
    for one in erasures:
        place.execute(
            sql.SQL(_NOTE).format(**names), (one.business_id, one.table, one.row_id, one.at)
        )
    # The triggers shall do what they do at any erasure, and they ask whether this is a home that
    # may be written. Seen by this transaction alone.
    place.execute(
        "update private.business_directory set is_writable = true where organization_id = %s",
        (organization_id,),
    )
    place.execute(sql.SQL(_UNMERGE).format(**names, gone=gone), (wanted, wanted))
    erased = place.execute(sql.SQL("delete from ") + gone, (wanted,)).rowcount
    unshared = sql.SQL(
        "delete from public.access_control_lists a using {erasures} e "
        "where a.business_id = any (%s) and e.resource = 'access_control_lists' "
        "and (e.business_id, e.resource_id) = (a.business_id, a.id)"
    )
    place.execute(unshared.format(**names), (wanted,))
    place.execute(
        "select private.refresh_business_directory(array[%s]::uuid[])", (organization_id,)
    )
    row = place.execute(sql.SQL("select count(*) as rows from ") + gone, (wanted,)).fetchone()
    if row is None or row["rows"]:
        raise BackupError("rows that were erased are there again")
    return erased
