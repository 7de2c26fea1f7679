"""Generates single faults: each mutant breaks one thing that isolation rests on.

Made from the catalog, so that a new table, policy or function has its mutants at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .catalog import Connection
from .mutant import Mutant
from .specification import Specification
from .world import World

_POLICIES = """
select n.nspname || '.' || c.relname, p.polname::text, p.polcmd::text, p.polpermissive,
  pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' order by 1, 2
"""
_UNIQUE = """
select n.nspname || '.' || c.relname, i.indexrelid::regclass::text,
  (select string_agg(quote_ident(a.attname), ', ' order by k.place)
   from unnest(i.indkey) with ordinality k(number, place)
   join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number where k.place > 1),
  pg_get_expr(i.indpred, i.indrelid)
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
join pg_attribute b on b.attrelid = c.oid and b.attnum = i.indkey[0] and b.attname = 'business_id'
where n.nspname = 'public' and i.indisunique and not i.indisprimary and not c.relispartition
order by 2
"""
_TRIGGERS = """
select n.nspname || '.' || c.relname, t.tgname from pg_trigger t
join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'private') and not t.tgisinternal and t.tgparentid = 0 order by 1, 2
"""
#: Permissions that a policy could be confused with.
_OTHER = {"business.read": "members.read"}


def _altered(table: str, word: str, clauses: Mapping[str, str]) -> str:
    """The policies of these names, with other clauses."""
    return ";".join(
        f"alter policy {name} on {table} {word} ({clause})" for name, clause in clauses.items()
    )


def object_mutants(world: World, connection: Connection) -> list[Mutant]:
    """All mutants of policies, tables, grants, keys, triggers and views of the database."""
    maker = _Maker(world, connection)
    return [
        *maker.policies(),
        *maker.tables(),
        *maker.grants(),
        *maker.references(),
        *maker.unique_keys(),
        *maker.triggers(),
        *maker.views(),
    ]


class _Maker:
    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._specification: Specification = world.specification
        self._connection = connection
        self._tables = [
            one for one in world.specification.tables.values() if one.schema == "public"
        ]

    def policies(self) -> Iterator[Mutant]:
        policies = self._connection.execute(_POLICIES).fetchall()
        clauses_of = {
            name: {"using": using, "with check": check} for _, name, _, _, using, check in policies
        }
        for table, name, command, is_permissive, _, _ in policies:
            slices = (table,)
            target = f"{name} on {table}"
            pair = [one for one in (name, f"{name}_only_held") if one in clauses_of]
            yield Mutant("policy dropped", target, f"drop policy {target}", slices)
            for word, clause in clauses_of[name].items():
                if clause is None or clause in ("true", "is_public"):
                    continue

                opened = _altered(table, word, {name: "true"})
                yield Mutant(f"{word} (true)", target, opened, slices)
                if not is_permissive:
                    continue
                # In both: each refuses what the other would let through.
                both = _altered(table, word, dict.fromkeys(pair, "true"))
                yield Mutant(f"{word} (true) twice", target, both, slices)
                anybody = dict.fromkeys(pair, "private.current_user_id() is not null")
                signed_in = _altered(table, word, anybody)
                yield Mutant(f"{word} anybody signed in", target, signed_in, slices)
                if found := re.search(r"(?:ids\(|permission = )'([a-z_.]+)'", clause):
                    code = found[1]
                    if not code.startswith("organization."):
                        other = _OTHER.get(code, "business.read")
                        swapped = {
                            one: str(clauses_of[one][word]).replace(f"'{code}'", f"'{other}'")
                            for one in pair
                        }
                        change = _altered(table, word, swapped)
                        yield Mutant(f"{word} with another permission", target, change, slices)
            # Visitors have no grant that it would open.
            yield Mutant("policy to public", target, f"alter policy {target} to public", ())
            verb = {"r": "select", "a": "insert", "w": "update", "d": "delete"}[command]
            if not is_permissive:
                clauses = " ".join(
                    f"{word} ({one})" for word, one in clauses_of[name].items() if one
                )
                yield Mutant(
                    "restrictive made permissive",
                    target,
                    f"drop policy {target};"
                    f"create policy {name} on {table} for {verb} to authenticated {clauses}",
                    slices,
                )
                continue
            open_clause = "with check (true)" if verb == "insert" else "using (true)"
            yield Mutant(
                "a second policy",
                target,
                f"create policy more on {table} for {verb} to authenticated {open_clause}",
                slices,
            )

    def tables(self) -> Iterator[Mutant]:
        for table in self._tables:
            off = f"alter table {table.label} disable row level security"
            yield Mutant("row security off", table.label, off, (table.label,))
            # The owner passes row security anyway (BYPASSRLS, as on Supabase).
            unforced = f"alter table {table.label} no force row level security"
            yield Mutant("row security not forced", table.label, unforced, ())

    def grants(self) -> Iterator[Mutant]:
        for table in self._tables:
            label, slices = table.label, (table.label,)
            columns = self._world.catalog.relations[label].columns
            wanted = [
                ("truncate granted", f"grant truncate on {label} to authenticated"),
                ("the table granted", f"grant select on {label} to authenticated"),
                ("the table granted to visitors", f"grant select on {label} to anon"),
            ]
            if table.key is not None:
                grant = f"grant update ({table.key}) on {label} to authenticated"
                wanted.append(("update of the key granted", grant))
            if table.rule("delete") == "nobody":
                wanted.append(("delete granted", f"grant delete on {label} to authenticated"))
            derived = [
                one.name
                for one in columns
                if one.name not in table.update_columns and not one.is_generated
            ]
            if derived and table.rule("update") != "nobody":
                grant = f"grant update ({derived[-1]}) on {label} to authenticated"
                wanted.append(("update of a derived column granted", grant))
            if table.is_readable:
                first = columns[0].name
                revoke = f"revoke select ({first}) on {label} from authenticated"
                wanted.append(("a grant taken away", revoke))
            if not table.service >= {"insert", "update"}:
                grant = f"grant insert, update, delete on {label} to service_role"
                wanted.append(("jobs may write", grant))
            for kind, statement in wanted:
                yield Mutant(kind, label, statement, slices)
            # No statement of a member or of service_role can tell these: golden files and gates do.
            for kind, statement in (
                ("references granted", f"grant references on {label} to authenticated"),
                ("granted to webhooks", f"grant select on {label} to integrator"),
            ):
                yield Mutant(kind, label, statement, ())

    def references(self) -> Iterator[Mutant]:
        """A composite reference made simple, or dropped."""
        for one in self._world.catalog.references:
            if len(one.columns) < 2 or not one.table.startswith("public."):
                continue
            column = next(name for name in one.columns if name != "business_id")
            target = next(name for name in one.target_columns if name != "business_id")
            drop = f"alter table {one.table} drop constraint {one.name}"
            simple = (
                f"{drop}; create unique index one_{target} on {one.target} ({target});"
                f"alter table {one.table} add constraint {one.name} foreign key ({column})"
                f" references {one.target} ({target})"
            )
            yield Mutant("reference without the business", one.name, simple, (one.table,))
            yield Mutant("reference dropped", one.name, drop, (one.table,))

    def unique_keys(self) -> Iterator[Mutant]:
        """A unique key that spans tenants. In the world they have equal natural values."""
        for table, name, columns, where in self._connection.execute(_UNIQUE):
            own = f"{columns}) where {where}" if where else f"{columns})"
            statement = f"create unique index spanning on {table} ({own}"
            yield Mutant("unique key over tenants", str(name), statement, (table,))

    def triggers(self) -> Iterator[Mutant]:
        for table, name in self._connection.execute(_TRIGGERS):
            is_mark = name.startswith(("_015_shared", "_600_mark"))
            slices = ("shared records",) if is_mark else (table,)
            statement = f"drop trigger {name} on {table}"
            yield Mutant("trigger dropped", f"{name} on {table}", statement, slices)

    def views(self) -> Iterator[Mutant]:
        for label, view in self._specification.views.items():
            if not view.has_cells:
                continue  # it runs as its owner, or nobody else selects it
            reset = f"alter view {label} reset (security_invoker)"
            yield Mutant("view runs as its owner", label, reset, (label,))
