-- Follows catalog.sql. A schema's own name is taken out, so that two schemas made by the same files are equal.
select schema, md5(string_agg(entry, e'\n' order by entry collate "C")) from (
  select schema, concat_ws(e'\t', kind, case schema when 'public' then name else replace(name, schema, '<home>') end,
    case schema when 'public' then definition else replace(definition, schema, '<home>') end) as entry
  from facts
) entries group by schema
