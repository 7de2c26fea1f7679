-- E-mail addresses: which are valid, and the one form under which an address is stored and found.
--
-- The rules are those of the email-validator library (2.4.0, without DNS): RFC 5322 dot-atoms,
-- RFC 6531 for characters beyond ASCII before the @, IDNA 2008 with the mapping of UTS #46 after
-- it. No quoted local parts, comments, address literals, display names or special-use domains: such
-- text is hardly ever meant as an address and often meant as an attack. tests/normalization
-- compares the two.
--
-- Two things differ on purpose: a country's domain alone (ana@io) is an address, because some
-- countries receive mail there; and characters newer than Unicode 14 are refused everywhere, while
-- the library follows the Python that runs it.

-- Lower case by Unicode's table, whatever the locale of the database.
create function private.lower_case(value text) returns text
  language sql stable parallel safe
begin atomic
  select case
    when octet_length(value) = length(value) then lower(value collate "C")
    else replace(
      lower(private.folded(value, 'lower') collate "C"), U&'\0130', U&'i\0307')
    end;
end;

-- Letters, numbers, punctuation, symbols, and marks that have something to stand on: nothing that
-- is invisible, unassigned, or changes how its surroundings are shown.
create function private.is_graphic(value text) returns boolean
  language sql stable parallel safe
begin atomic
  select not exists (
    select from regexp_split_to_table(value, '') with ordinality as character (letter, position)
    where ascii(letter) > 127 and not exists (
      select from private.character_classes as known
      where (known.class in ('letter_or_number', 'symbol')
          or known.class in ('mark', 'spacing_mark') and character.position > 1)
        and ascii(letter) <@ known.characters));
end;

-- ---------------------------------------------------------------------------------------------
-- Domain names
-- ---------------------------------------------------------------------------------------------

-- The threshold between the digits of a Punycode number, section 6.1 of RFC 3492.
create function private.punycode_bias(delta integer, points integer, is_first boolean)
  returns integer
  language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  remaining integer := delta / case when is_first then 700 else 2 end;
  steps integer := 0;
begin
  remaining := remaining + remaining / points;
  while remaining > 455 loop
    remaining := remaining / 35;
    steps := steps + 36;
  end loop;
  return steps + 36 * remaining / (remaining + 38);
end
$$;

create function private.punycode(label text) returns text
  language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  points integer[] := array(select ascii(letter) from regexp_split_to_table(label, '') as letter);
  encoded text := regexp_replace(label, '[^\u0001-\u007F]', '', 'g');
  basic integer := length(encoded);
  handled integer := basic;
  current integer := 128;
  upcoming integer;
  bias integer := 72;
  delta integer := 0;
  point integer;
  rest integer;
  base integer;
  threshold integer;
begin
  if basic > 0 then
    encoded := encoded || '-';
  end if;
  while handled < cardinality(points) loop
    select min(each) into upcoming from unnest(points) as each where each >= current;
    delta := delta + (upcoming - current) * (handled + 1);
    current := upcoming;
    foreach point in array points loop
      if point < current then
        delta := delta + 1;
      elsif point = current then
        rest := delta;
        base := 36;
        loop
          threshold := least(greatest(base - bias, 1), 26);
          exit when rest < threshold;
          encoded := encoded || substr('abcdefghijklmnopqrstuvwxyz0123456789',
            threshold + (rest - threshold) % (36 - threshold) + 1, 1);
          rest := (rest - threshold) / (36 - threshold);
          base := base + 36;
        end loop;
        encoded := encoded || substr('abcdefghijklmnopqrstuvwxyz0123456789', rest + 1, 1);
        bias := private.punycode_bias(delta, handled + 1, handled = basic);
        delta := 0;
        handled := handled + 1;
      end if;
    end loop;
    delta := delta + 1;
    current := current + 1;
  end loop;
  return encoded;
end
$$;

-- The text of a Punycode label; null unless it is the one way to write that text.
create function private.from_punycode(encoded text) returns text
  language plpgsql immutable parallel safe set search_path = ''
as $$
declare
  hyphen integer := length(encoded) - position('-' in reverse(encoded)) + 1;
  decoded text := case when hyphen > length(encoded) then '' else left(encoded, hyphen - 1) end;
  rest text := case when hyphen > length(encoded) then encoded else substr(encoded, hyphen + 1) end;
  current integer := 128;
  place bigint := 0;
  before bigint;
  weight bigint;
  bias integer := 72;
  base integer;
  digit integer;
  threshold integer;
begin
  while rest <> '' loop
    before := place;
    weight := 1;
    base := 36;
    loop
      digit := position(left(rest, 1) in 'abcdefghijklmnopqrstuvwxyz0123456789') - 1;
      rest := substr(rest, 2);
      place := place + digit * weight;
      threshold := least(greatest(base - bias, 1), 26);
      exit when digit < threshold and digit >= 0;
      if digit < 0 or rest = '' or place > 2147483647 then
        return null;
      end if;
      weight := weight * (36 - threshold);
      base := base + 36;
    end loop;
    if place > 2147483647 or current + place / (length(decoded) + 1) > 1114111 then
      return null;
    end if;
    bias := private.punycode_bias((place - before)::integer, length(decoded) + 1, before = 0);
    current := current + (place / (length(decoded) + 1))::integer;
    place := place % (length(decoded) + 1);
    if current between 55296 and 57343 then  -- surrogates are no characters
      return null;
    end if;
    decoded := left(decoded, place::integer) || chr(current) || substr(decoded, place::integer + 1);
    place := place + 1;
  end loop;
  return case when private.punycode(decoded) = encoded then decoded end;
end
$$;

-- A domain name in the one form that UTS #46 gives it: lower case, compatible characters unified,
-- variation selectors and fillers dropped, every kind of full stop a dot.
create function private.mapped_domain(raw text) returns text
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  mapped text := regexp_replace(raw, '[\u034F\u115F\u1160\u17B4\u17B5\u180B-\u180D\u180F\u3164'
    '\uFE00-\uFE0F\uFFA0\U000E0100-\U000E01EF]', '', 'g');
begin
  -- The joiner keeps an iota that was below its letter in place; it goes when the iota is a letter.
  mapped := regexp_replace(mapped, '([\u1F80-\u1FFC])', '\1' || U&'\034F', 'g');
  mapped := normalize(private.folded(mapped, 'domain'), nfkd);
  mapped := private.folded(private.lower_case(mapped), 'domain');
  return normalize(replace(mapped, U&'\034F', ''), nfkc);
end
$$;

-- What IDNA 2008 asks of a label beyond ASCII, already mapped (RFC 5891, 4.2; RFC 5892, app. A).
create function private.is_domain_label(label text) returns boolean
  language sql stable parallel safe
begin atomic
  select private.is_graphic(label)
    and substr(label, 3, 2) <> '--' and label !~ '^-|-$'
    and not exists (
      select from regexp_split_to_table(label, '') as letter
      where ascii(letter) > 127 and not private.has_class(letter, 'domain'))
    -- The middle dot of Catalan, the Greek keraia, Hebrew geresh, the Katakana dot, mixed digits.
    and label !~ '(?<!l)\u00B7|\u00B7(?!l)'
    and label !~ '\u0375(?![\u0370-\u03FF\u1F00-\u1FFF])'
    and label !~ '(?<![\u0591-\u05F4])[\u05F3\u05F4]'
    and not (label ~ '\u30FB' and label !~ '[\u3005\u3007\u3041-\u3096\u309D\u309E'
      '\u30A1-\u30FA\u30FD\u30FE\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\U00020000-\U0003FFFF]')
    and not (label ~ '[\u0660-\u0669]' and label ~ '[\u06F0-\u06F9]');
end;

-- The Bidi Rule of RFC 5893, section 2, with its directions as letters: R right to left, A Arabic
-- number, E European number, S neutral, N mark, L the rest. Two names must not look the same.
create function private.obeys_bidi_rule(label text) returns boolean
  language sql stable parallel safe
begin atomic
  select kinds ~ '^R[RAESN]*$' and kinds ~ '[RAE]N*$' and not (kinds ~ 'A' and kinds ~ 'E')
    or kinds ~ '^L[LESN]*$' and kinds ~ '[LE]N*$'
  from (
    select string_agg(
      case
        when letter ~ '[0-9\u06F0-\u06F9]' then 'E'
        when letter ~ ('[-\u00B7\u02B9\u02BA\u02C6-\u02CF\u02EC\u0375\u2E2F\u30FB\uA67F'
          '\uA717-\uA71F\uA788]') then 'S'
        when ascii(letter) < 128 then 'L'
        when letter ~ '[\u0660-\u0669\U00010D30-\U00010D39]' then 'A'
        when private.has_class(letter, 'right_to_left') then 'R'
        when private.has_class(letter, 'mark') then 'N'
        else 'L' end, '' order by position) as kinds
    from regexp_split_to_table(label, '') with ordinality as character (letter, position)
  ) as directions;
end;

-- The canonical Unicode form of a domain name and what is sent on the wire. Null unless valid.
create function private.email_domain(raw text, out domain text, out wire text)
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  mapped text := lower(raw collate "C");
  label text;
  shown text;
  sent text;
  shown_labels text[];
  sent_labels text[];
begin
  if octet_length(raw) > length(raw) then
    -- The characters listed hide a dot: "a⒈example" would become another domain.
    if not private.is_graphic(raw) or raw ~ ('[\u2024-\u2026\u2488-\u249B\u33C2\u33C7\u33D8\uFE12'
      '\uFE19\uFE30\uFE52\U0001F100]')
    then
      return;
    end if;
    mapped := private.mapped_domain(raw);
  end if;
  if length(raw) > 253 or mapped ~ '[\u0001-,/:-`{-\u007F]'
    or mapped !~ '^[^.-](?:[^.]*[^.-])?(?:\.[^.-](?:[^.]*[^.-])?)*$'
    or mapped ~ '(?:^|\.)(?!xn)[^.]{2}--'
  then
    return;
  end if;

  foreach label in array string_to_array(mapped, '.') loop
    shown := label;
    sent := label;
    if label ~ '^xn--' then
      shown := private.from_punycode(substr(label, 5));
      if shown is null or octet_length(shown) = length(shown)
        or shown is distinct from private.mapped_domain(shown)
      then
        return;
      end if;
    elsif octet_length(label) > length(label) then
      sent := 'xn--' || private.punycode(label);
    end if;
    if length(sent) > 63
      or (octet_length(shown) > length(shown) and not private.is_domain_label(shown))
    then
      return;
    end if;
    shown_labels := shown_labels || shown;
    sent_labels := sent_labels || sent;
  end loop;
  shown := array_to_string(shown_labels, '.');
  sent := array_to_string(sent_labels, '.');

  if length(sent) > 253 or sent !~ '[a-z]$' or sent !~ '\.|^[a-z]{2}$'
    -- Names that the IANA keeps from the public mail system.
    or sent ~ '(?:^|\.)(?:arpa|invalid|local|localhost|onion|test)$'
  then
    return;
  end if;
  if octet_length(shown) > length(shown) and exists (
      select from regexp_split_to_table(shown, '') as letter
      where letter ~ '[\u0660-\u0669\U00010D30-\U00010D39]'
        or private.has_class(letter, 'right_to_left'))
    and not (select bool_and(private.obeys_bidi_rule(each)) from unnest(shown_labels) as each)
  then
    return;
  end if;
  domain := shown;
  wire := sent;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- Addresses
-- ---------------------------------------------------------------------------------------------

-- A dot-atom of RFC 5322, with any graphic character beyond ASCII (RFC 6531).
create function private.is_local_part(value text) returns boolean
  language sql stable parallel safe
begin atomic
  select value ~ ('^[^\u0001-\u0020"(),.:;<>@[\\\]\u007F]+'
      '(?:\.[^\u0001-\u0020"(),.:;<>@[\\\]\u007F]+)*$')
    and (octet_length(value) = length(value) or private.is_graphic(value));
end;

-- The key of an address, taken as it is; null unless valid.
create function private.email_key(address text) returns text
  language plpgsql stable parallel safe set search_path = ''
as $$
declare
  at integer;
  local_part text;
  composed text;
  found record;
begin
  if address is null or octet_length(address) > 254 then
    return null;
  end if;
  at := position('@' in address);
  local_part := left(address, greatest(at - 1, 0));
  if not private.is_local_part(local_part) then
    return null;
  end if;
  composed := normalize(local_part, nfc);
  if composed <> local_part and not private.is_local_part(composed) then
    return null;
  end if;
  found := private.email_domain(substr(address, at + 1));
  if found.domain is null
    or octet_length(composed || '@' || found.domain) > 254
    or octet_length(composed || '@' || found.wire) > 254
  then
    return null;
  end if;
  -- A Greek word ends in another sigma: ΟΔΟΣ is οδος in lower case.
  composed := regexp_replace(composed, '([a-zA-Z\u00C0-\u024F\u0370-\u03FF\u1F00-\u1FFF])\u03A3'
    '(?![a-zA-Z\u00C0-\u024F\u0370-\u03FF\u1F00-\u1FFF])', '\1' || U&'\03C2', 'g');
  return normalize(private.lower_case(composed), nfc) || '@' || found.domain;
end
$$;

create function public.normalize_email(raw text) returns text
  language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.email_key(btrim(raw, ' '));
end
$$;
comment on function public.normalize_email(text) is
  'The key under which an e-mail address is stored and found, or null if it is not valid: without '
  'surrounding spaces, composed (NFC), domain in lower case and as Unicode (xn-- is decoded), and '
  'the part before the @ in lower case too. Mail servers may tell Ana@ from ana@, so write to the '
  'address as it was given and use the key to compare. Dots and +tags stay. Line breaks and other '
  'control characters make it invalid, also at the ends. Never raises.';

create function public.is_valid_email(raw text) returns boolean
  language plpgsql stable security definer parallel safe set search_path = ''
as $$
begin
  return private.email_key(raw) is not null;
end
$$;
comment on function public.is_valid_email(text) is
  'Whether the text is an e-mail address exactly as it stands; surrounding spaces make it invalid '
  '(normalize_email removes them first). Valid means well-formed and not reserved, not that mail '
  'arrives. Never null, never raises.';

revoke all on function private.lower_case(text), private.is_graphic(text),
  private.punycode_bias(integer, integer, boolean), private.punycode(text),
  private.from_punycode(text), private.mapped_domain(text), private.is_domain_label(text),
  private.obeys_bidi_rule(text), private.email_domain(text), private.is_local_part(text),
  private.email_key(text)
  from public;
revoke all on function public.normalize_email(text), public.is_valid_email(text) from public, anon;
grant execute on function public.normalize_email(text), public.is_valid_email(text)
  to authenticated, service_role;
