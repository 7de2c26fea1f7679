-- Follows catalog.sql.
select kind, name, definition from facts
