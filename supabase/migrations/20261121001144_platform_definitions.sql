/*
 * Definitions that survive a dump: what Postgres prints of them is what it prints of its own print. The gateway
 * compares prints, and would not serve a restored database otherwise. (BETWEEN becomes nested, then flat.)
 */
alter table public.business_domains drop constraint business_domains_host;
alter table public.business_domains add constraint business_domains_host check (char_length(host) >= 4 and char_length(host) <= 253
  and host ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$');
