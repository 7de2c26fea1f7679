"""Where the tenant tables under attack are, who is at home there, and whose registry is known."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from .catalog import Relation
from .people import ORGANIZATIONS, Business, Organization


@dataclass(frozen=True)
class Site:
    """One place for the tenant plane; rows of those who live elsewhere may lie there too."""

    #: pooled, schema or database
    placement: str
    #: The schema with the tenant tables.
    schema: str
    #: Whose home it is.
    residents: frozenset[Organization]
    #: Whose registry rows the database has.
    known: frozenset[Organization]
    #: What lies in `schema`, by its label in the pooled place; empty there.
    tenant_plane: frozenset[str] = frozenset()
    #: Users the database knows of; None for all who have an account.
    accounts: frozenset[str] | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the registry rows in the database are copies of those in another."""
        return self.placement != "pooled"

    def is_home(self, business: Business) -> bool:
        return business.organization in self.residents

    def takes_writes(self, business: Business) -> bool:
        """Whether rows of the tenant plane may be written here, by whatever role."""
        is_open = business.is_active and business.organization.state == "active"
        return is_open and self.is_home(business)

    def knows(self, business: Business) -> bool:
        return business.organization in self.known

    def schema_of(self, label: str) -> str:
        """Where a table, view or function is that `public.name` stands for."""
        return self.schema if label in self.tenant_plane else label.partition(".")[0]

    def identifier(self, relation: Relation) -> sql.Identifier:
        return sql.Identifier(self.schema_of(relation.label), relation.name)


#: The database that the world is built in.
POOLED = Site(
    "pooled",
    "public",
    frozenset(one for one in ORGANIZATIONS if one.schema == "public" and one.database is None),
    frozenset(ORGANIZATIONS),
)
