"""Invitations that were made at a home reach the main database, where they are accepted.

`invite_portal_customer` runs where the customer is. In another database than the main one it leaves
its invitation there, whole; nobody could accept it there, so each is taken to the main database in
one transaction and only then removed. Doing it twice changes nothing.
"""

from __future__ import annotations

import psycopg
from psycopg.types.json import Jsonb

from tenantry_cli.fleet.fleet import Fleet

_WAITING = """
select to_jsonb(i) as invitation, encode(t.token_hash, 'hex') as token_hash
from public.invitations i
join private.invitation_tokens t on (t.business_id, t.invitation_id) = (i.business_id, i.id)
order by i.created_at for update of i
"""


def collect_invitations(fleet: Fleet) -> int:
    """Visit all other databases; returns how many invitations were taken over."""
    taken = 0
    for database in fleet.places():
        try:
            # Locked until it is gone: one that is revoked meanwhile must not arrive.
            with fleet.connect(database) as place, place.transaction():
                rows = place.execute(_WAITING).fetchall()
                for row in rows:
                    with fleet.session() as main:
                        main.execute(
                            "select private.receive_invitation(%s, decode(%s, 'hex'))",
                            (Jsonb(row["invitation"]), row["token_hash"]),
                        )
                    place.execute(
                        "delete from public.invitations where id = %s", (row["invitation"]["id"],)
                    )
                    taken += 1
        except psycopg.OperationalError:
            continue  # a place that cannot be reached is visited again
    return taken
