-- Telephone numbers as people write them, read the way libphonenumber reads them.
--
-- A customer is found by her number, so every path into the database must arrive at the same text
-- for the same line: "(415) 555-0123" in a US business, "+1 415 555 0123" from a provider and
-- "001-415-555-0123" dialled from London are all +14155550123. The rules and their order follow
-- phonenumberutil.py of phonenumbers 9.0.43 (google/libphonenumber, Apache-2.0); the plans are the
-- tables of platform_phone_metadata. tests/normalization compares the two on generated numbers.
--
-- What differs from a library on purpose: nothing here raises. Text that is no number gives null.

-- ---------------------------------------------------------------------------------------------
-- Characters
-- ---------------------------------------------------------------------------------------------

create function private.has_class(letter text, class text) returns boolean
  language sql stable strict parallel safe
begin atomic
  select ascii(letter) <@ known.characters
  from private.character_classes as known
  where known.class = has_class.class;
end;

-- What the characters of a text become in one of the folds; positions stay.
create function private.folded(raw text, fold text) returns text
  language sql stable strict parallel safe
begin atomic
  select translate(raw, known.from_characters, known.to_characters)
  from private.character_folds as known
  where known.fold = folded.fold;
end;

-- One lower-case form for the letters and signs that the grammar below treats alike. Punctuation
-- without a meaning of its own becomes "(". Positions stay, so the original text can be cut alike.
create function private.fold_phone_text(raw text) returns text
  language sql stable parallel safe
begin atomic
  select case
    when octet_length(raw) = length(raw) then lower(raw collate "C")
    else translate(
      lower(private.folded(raw, 'digit') collate "C"),
      U&'\FF0B'  -- full-width plus
        || U&'\0130\0131\017F\212A'  -- letters that match i, s and k when case is ignored
        || U&'\FF25\FF38\FF34\FF2E\FF29' || U&'\0414\041E\0411\1C81\1C82' || U&'\00D3'
        || U&'\00AD\200B\2010\2011\2012\2013\2014\2015\2053\2060\2212\223C\3000'
        || U&'\FF08\FF09\FF0D\FF0F\FF3B\FF3D',
      '+' || 'iisk' || U&'\FF45\FF58\FF54\FF4E\FF49' || U&'\0434\043E\0431\0434\043E'
        || U&'\00F3' || repeat('(', 19))
    end;
end;

-- The grammar of folded text: at least three digits with punctuation among them; letters may follow
-- the third.
create function private.phone_text_pattern() returns text
  language sql immutable parallel safe
begin atomic
  select '\+*(?:[-x ().[\]/~*\u00A0\u30FC\uFF0E\uFF5E]*[0-9]){3}'
    || '[-x ().[\]/~*\u00A0\u30FC\uFF0E\uFF5E0-9a-z]*';
end;

-- An extension at the end of folded text. How many digits it may have depends on how clearly it is
-- introduced: ";ext=", a word, a sign, a trailing #, the pauses ",," and ";", or commas alone.
create function private.phone_extension_pattern() returns text
  language sql immutable parallel safe
begin atomic
  select '(?:;ext=[0-9]{1,20}'
    || '|[ \u00A0\t,]*(?:e?xt(?:ensi(?:o\u0301?|\u00F3))?n?|\uFF45?\uFF58\uFF54\uFF4E?'
    || '|\u0434\u043E\u0431|anexo)[:.\uFF0E]?[ \u00A0\t,-]*[0-9]{1,20}#?'
    || '|[ \u00A0\t,]*(?:[x\uFF58#\uFF03~\uFF5E]|int|\uFF49\uFF4E\uFF54)'
    || '[:.\uFF0E]?[ \u00A0\t,-]*[0-9]{1,9}#?'
    || '|[- ]+[0-9]{1,6}#'
    || '|[ \u00A0\t]*(?:,,|;)[:.\uFF0E]?[ \u00A0\t,-]*[0-9]{1,15}#?'
    || '|[ \u00A0\t]*,+[:.\uFF0E]?[ \u00A0\t,-]*[0-9]{1,9}#?)$';
end;

-- Two digits are a number as well (15 calls an ambulance), but take neither sign nor extension.
create function private.is_phone_text(folded text) returns boolean
  language sql immutable parallel safe
begin atomic
  select folded ~ ('^(?:[0-9]{2}|' || private.phone_text_pattern() || ')$')
    or folded ~ ('^' || private.phone_text_pattern() || private.phone_extension_pattern());
end;

-- ---------------------------------------------------------------------------------------------
-- Parsing
-- ---------------------------------------------------------------------------------------------

-- Cuts the text that may be a number out of what surrounds it ("Tel: +1 ..., mornings"), and joins
-- what RFC 3966 takes apart ("863-1234;phone-context=+1-914-555").
create function private.phone_text(raw text) returns text
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  folded text;
  found text;
  context text;
  context_at integer := position(';phone-context=' in raw);
  starts integer;
  ends integer;
  last text;
begin
  if context_at > 0 then
    context := split_part(substr(raw, context_at + 15), ';', 1);
    folded := private.folded(context, 'digit');
    if folded !~ '^\+[-.()]*[0-9][-.()0-9]*$' and folded !~ ('^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*'
      || '[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?$')
    then
      return null;
    end if;
    starts := position('tel:' in raw);
    starts := case when starts > 0 then starts + 4 else 1 end;
    found := case when left(context, 1) = '+' then context else '' end
      || substr(raw, starts, greatest(context_at - starts, 0));
  else
    folded := private.fold_phone_text(raw);
    starts := regexp_instr(folded, '[+0-9]');
    if starts = 0 then
      return null;
    end if;
    ends := length(folded);
    loop
      last := substr(folded, ends, 1);
      exit when last ~ '[0-9a-z#]' or ends = starts
        or (ascii(last) > 127 and private.has_class(last, 'letter_or_number'));
      ends := ends - 1;
    end loop;
    found := substr(raw, starts, ends - starts + 1);
    -- "x302/x2303" names two extensions: the second is dropped.
    ends := regexp_instr(found, '[\\/] *x');
    if ends > 0 then
      found := left(found, ends - 1);
    end if;
  end if;
  ends := position(';isub=' in found);
  return case when ends > 1 then left(found, ends - 1) else found end;
end
$$;

-- The digits that would be dialled. Three letters make a vanity number (1-800-FLOWERS), which is
-- read on the keypad; then only ASCII digits count, as in libphonenumber.
create function private.phone_digits(found text) returns text
  language sql stable parallel safe
begin atomic
  select regexp_replace(
    case when found ~ '[A-Za-z].*[A-Za-z].*[A-Za-z]' then
      translate(found, 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ' || U&'\0131\017F',
        '222333444555666777788899992223334445556667777888999947')
    else private.fold_phone_text(found) end,
    '[^0-9]', '', 'g');
end;

create function private.is_general_phone(number text, general_numbers int8multirange)
  returns boolean
  language sql immutable parallel safe
begin atomic
  select case when length(number) between 1 and 17
    then ('1' || number)::bigint <@ general_numbers else false end;
end;

-- A national number without what is dialled before it at home (0, 1, 8, a carrier's code), unless
-- taking that away would spoil a plausible number.
create function private.without_national_prefix(number text, plan private.phone_regions)
  returns text
  language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  groups text[] := regexp_match(number, plan.national_prefix);
  stripped text;
begin
  if groups is null or number = '' then
    return number;
  end if;
  if plan.national_prefix_replacement is null or groups[cardinality(groups)] is null then
    stripped := substr(number, length(groups[1]) + 1);
  else
    stripped := regexp_replace(
      number, plan.national_prefix, plan.national_prefix_replacement);
  end if;
  if private.is_general_phone(number, plan.general_numbers)
    and not private.is_general_phone(stripped, plan.general_numbers)
  then
    return number;
  end if;
  return stripped;
end
$$;

-- The plan of the calling code that international digits begin with; no code begins with 0.
create function private.plan_of_international(digits text) returns private.phone_regions
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  plan private.phone_regions;
begin
  if digits ~ '^[1-9]' then
    select * into plan
    from private.phone_regions as main
    where main.is_main
      and main.calling_code
        = any (array[left(digits, 1), left(digits, 2), left(digits, 3)]::integer[]);
  end if;
  return plan;
end
$$;

-- Everything that can be read from a text: the number as libphonenumber's parse() reads it, whether
-- it is valid, its extension. All columns are null when the text is no number.
create function private.parse_phone(
  raw text,
  default_region text,
  out e164 text,
  out extension text,
  out calling_code integer,
  out region text,
  out is_valid boolean,
  out is_possible boolean
)
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  found_text text;
  folded text;
  digits text;
  rest text;
  national text;
  candidate text;
  suffix text;
  cut integer;
  is_international boolean;
  home private.phone_regions;
  plan private.phone_regions;
begin
  if raw is null or length(raw) > 250 then  -- the library's guard against hostile input
    return;
  end if;
  found_text := private.phone_text(raw);
  folded := private.fold_phone_text(found_text);
  if found_text is null or not private.is_phone_text(folded) then
    return;
  end if;
  is_international := left(folded, 1) = '+';
  if not is_international then
    select * into home from private.phone_regions as known
    where known.region = default_region and known.region <> '001';
    if not found then
      return;
    end if;
  end if;

  if folded ~ '[a-z,;#~]|[^\u0001-\u007F]' then
    cut := regexp_instr(folded, private.phone_extension_pattern());
    if cut > 0 and private.is_phone_text(left(folded, cut - 1)) then
      suffix := substring(folded from '([0-9]+)#?$');
      found_text := left(found_text, cut - 1);
    end if;
  end if;
  digits := private.phone_digits(found_text);

  if is_international then
    if length(digits) < 3 then
      return;
    end if;
    plan := private.plan_of_international(digits);
    if plan.calling_code is null then  -- perhaps the plus was a slip: read it as dialled at home
      select * into home from private.phone_regions as known
      where known.region = upper(default_region) and known.region <> '001';
    else
      national := substr(digits, length(plan.calling_code::text) + 1);
    end if;
  end if;

  if plan.calling_code is null and home.calling_code is not null then
    rest := substr(digits, length(substring(digits from home.international_prefix)) + 1);
    -- No calling code begins with 0, so what a 0 follows was no international prefix.
    if rest is not null and left(rest, 1) <> '0' then
      plan := private.plan_of_international(rest);
      national := substr(rest, length(plan.calling_code::text) + 1);
    else
      -- The code of the country without plus or prefix, as in 4930123456 dialled in Germany.
      rest := null;
      if starts_with(digits, home.calling_code::text) then
        candidate := private.without_national_prefix(
          substr(digits, length(home.calling_code::text) + 1), home);
        if (not private.is_general_phone(digits, home.general_numbers)
            and private.is_general_phone(candidate, home.general_numbers))
          or (length(digits) > home.lengths[cardinality(home.lengths)]
            and not length(digits) = any (home.local_lengths))
        then
          select * into plan from private.phone_regions as main
          where main.is_main and main.calling_code = home.calling_code;
          national := candidate;
        end if;
      end if;
      if plan.calling_code is null and not is_international then
        plan := home;
        national := digits;
      end if;
    end if;
  end if;
  if plan.calling_code is null or length(national) < 2
    or (rest is not null and length(rest) < 3)
  then
    return;
  end if;

  -- What is left must still be long enough for the plan, or the prefix was part of the number.
  candidate := private.without_national_prefix(national, plan);
  if not length(candidate) = any (plan.local_lengths)
    and (length(candidate) = any (plan.lengths)
      or length(candidate) > plan.lengths[cardinality(plan.lengths)])
  then
    national := candidate;
  end if;
  if length(national) not between 2 and 17 then
    return;
  end if;

  calling_code := plan.calling_code;
  e164 := '+' || calling_code || national;
  extension := suffix;
  select owner.region into region
  from (
    select ranges.region, ranges.last_number
    from private.phone_ranges as ranges
    where ranges.calling_code = plan.calling_code
      and ranges.first_number <= ('1' || national)::bigint
    order by ranges.first_number desc
    limit 1
  ) as owner
  where owner.last_number >= ('1' || national)::bigint;
  is_valid := found;
  if not plan.is_main then
    select * into plan from private.phone_regions as main
    where main.is_main and main.calling_code = plan.calling_code;
  end if;
  is_possible := length(national) = any (plan.lengths || plan.local_lengths);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- What clients call
-- ---------------------------------------------------------------------------------------------

create function public.normalize_phone(raw text, region text) returns text
  language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  phone record;
begin
  phone := private.parse_phone(raw, region);
  return case when phone.is_valid then phone.e164 end;
end
$$;
comment on function public.normalize_phone(text, text) is
  'The E.164 form (+14155550123) of a telephone number as people write it, or null if it is not a '
  'valid number. `region` is the ISO 3166 code, in capitals, of the country in which a number '
  'without + is dialled (US); null if every number has a +. Extensions are dropped. Agrees with '
  'libphonenumber (parse, then is_valid_number). Never raises.';

create function public.is_valid_phone(raw text, region text) returns boolean
  language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return coalesce((private.parse_phone(raw, region)).is_valid, false);
end
$$;
comment on function public.is_valid_phone(text, text) is
  'Whether normalize_phone(raw, region) finds a number. Valid means that the numbering plan has '
  'such a number, not that somebody answers it. Never null, never raises.';

create function public.format_phone(e164 text, format text default 'international') returns text
  language plpgsql stable security definer parallel safe set search_path = ''
as $$
declare
  plan private.phone_regions;
  digits text;
  chosen private.phone_formats;
  wanted text := lower(format);
  grouped text;
begin
  if e164 is null or e164 !~ '^\+[1-9][0-9]{2,19}$'
    or wanted is null or wanted not in ('international', 'national', 'rfc3966', 'e164')
  then
    return null;
  end if;
  plan := private.plan_of_international(substr(e164, 2));
  digits := substr(e164, length(plan.calling_code::text) + 2);
  if plan.calling_code is null or digits = '' then
    return null;
  end if;
  if wanted = 'e164' then
    return e164;
  end if;
  select * into chosen
  from private.phone_formats as candidate
  where candidate.calling_code = plan.calling_code
    and case when wanted = 'national' then candidate.national else candidate.international end
      is not null
    and (candidate.leading_digits is null or digits ~ candidate.leading_digits)
    and digits ~ candidate.pattern
  order by candidate.position
  limit 1;
  grouped := case when chosen.position is null then digits else regexp_replace(
    digits, chosen.pattern,
    case when wanted = 'national' then chosen.national else chosen.international end) end;
  return case wanted
    when 'national' then grouped
    when 'international' then '+' || plan.calling_code || ' ' || grouped
    -- Any punctuation between the groups is a hyphen there (RFC 3966, 5.1.1).
    else 'tel:+' || plan.calling_code || '-'
      || regexp_replace(ltrim(grouped, '- ().'), '[- ().]+', '-', 'g')
    end;
end
$$;
comment on function public.format_phone(text, text) is
  'A number in E.164 form, written for people: international (+1 415-555-0123), national '
  '((415) 555-0123), rfc3966 (tel:+1-415-555-0123) or e164, grouped as libphonenumber does. Null '
  'for text that is not E.164 or has an unknown calling code, and for an unknown format. It does '
  'not ask whether the number is valid. Never raises.';

revoke all on function private.has_class(text, text), private.folded(text, text),
  private.fold_phone_text(text), private.phone_text_pattern(), private.phone_extension_pattern(),
  private.is_phone_text(text), private.phone_text(text), private.phone_digits(text),
  private.is_general_phone(text, int8multirange),
  private.without_national_prefix(text, private.phone_regions),
  private.plan_of_international(text), private.parse_phone(text, text)
  from public;
revoke all on function public.normalize_phone(text, text), public.is_valid_phone(text, text),
  public.format_phone(text, text) from public, anon;
grant execute on function public.normalize_phone(text, text), public.is_valid_phone(text, text),
  public.format_phone(text, text) to authenticated, service_role;
