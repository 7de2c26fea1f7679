"""Where a migration file is cut into statements."""

from __future__ import annotations

import pytest

from tenantry_cli.migrate.statements import split_statements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ;; \n", []),
        ("select 1", ["select 1"]),
        ("select 1;\nselect 2;\n", ["select 1", "select 2"]),
        ("select ';'; select 2", ["select ';'", "select 2"]),
        ("select 'it''s;'; select 2", ["select 'it''s;'", "select 2"]),
        (r"select e'it\';'; select 2", [r"select e'it\';'", "select 2"]),
        (r"select name'\'; select 2", [r"select name'\'", "select 2"]),
        ('select 1 as "a;b"; select 2', ['select 1 as "a;b"', "select 2"]),
        ("-- one; two\nselect 1; -- end", ["-- one; two\nselect 1", "-- end"]),
        ("/* ; /* ; */ ; */ select 1; select 2", ["/* ; /* ; */ ; */ select 1", "select 2"]),
        ("do $$ begin; end $$; select 2", ["do $$ begin; end $$", "select 2"]),
        ("do $a$ select $$;$$; $a$; select 2", ["do $a$ select $$;$$; $a$", "select 2"]),
        ("select a$b;select $1;", ["select a$b", "select $1"]),
        (
            "create rule r as on insert to t do (select 1; select 2); select 3",
            ["create rule r as on insert to t do (select 1; select 2)", "select 3"],
        ),
        (
            "create function f() returns int begin atomic select 1; end; select 2",
            ["create function f() returns int begin atomic select 1; end", "select 2"],
        ),
        (
            "create function f() begin  ATOMIC select case when a then 1 end; select 2; end; x",
            ["create function f() begin  ATOMIC select case when a then 1 end; select 2; end", "x"],
        ),
        (
            "create function f() begin atomic select 1; -- the END; of it\nend; x",
            ["create function f() begin atomic select 1; -- the END; of it\nend", "x"],
        ),
        ("begin; select atomic; end", ["begin", "select atomic", "end"]),
        ("select 'unfinished; select 2", ["select 'unfinished; select 2"]),
    ],
)
def test_a_semicolon_ends_a_statement_only_outside_of_everything(
    text: str, expected: list[str]
) -> None:
    assert split_statements(text) == expected
