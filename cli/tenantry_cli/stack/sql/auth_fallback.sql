-- A minimal `auth` schema for databases that no Auth server visits (database-only tests): the
-- tables that migrations, seeds and helpers may touch, with the columns that @supabase/lite and
-- hosted Supabase share. As on hosted, it belongs to `supabase_auth_admin`: `postgres` may use it,
-- reference it and hang triggers on it, but not alter it.

create schema if not exists auth;
do $$
begin
  if (select rolsuper from pg_roles where rolname = current_user) then
    alter schema auth owner to supabase_auth_admin;
    set local role supabase_auth_admin;
  end if;
end $$;
grant usage on schema auth to postgres, anon, authenticated, service_role;

create table if not exists auth.users (
  id                          uuid primary key,
  aud                         varchar(255) default 'authenticated',
  role                        varchar(255) default 'authenticated',
  email                       varchar(255),
  encrypted_password          varchar(255),
  phone                       text unique,
  email_confirmed_at          timestamptz,
  phone_confirmed_at          timestamptz,
  confirmed_at                timestamptz generated always as
                                (least(email_confirmed_at, phone_confirmed_at)) stored,
  invited_at                  timestamptz,
  confirmation_token          varchar(255),
  confirmation_sent_at        timestamptz,
  recovery_token              varchar(255),
  recovery_sent_at            timestamptz,
  email_change                varchar(255),
  email_change_token_new      varchar(255),
  email_change_token_current  varchar(255),
  email_change_sent_at        timestamptz,
  email_change_confirm_status smallint default 0,
  phone_change                text,
  phone_change_token          varchar(255),
  phone_change_sent_at        timestamptz,
  reauthentication_token      varchar(255),
  reauthentication_sent_at    timestamptz,
  raw_app_meta_data           jsonb default '{}',
  raw_user_meta_data          jsonb default '{}',
  banned_until                timestamptz,
  deleted_at                  timestamptz,
  is_sso_user                 boolean not null default false,
  is_anonymous                boolean not null default false,
  last_sign_in_at             timestamptz,
  created_at                  timestamptz default now(),
  updated_at                  timestamptz default now()
);
create unique index if not exists users_email_partial_key on auth.users (email)
  where is_sso_user = false;

create table if not exists auth.identities (
  id              uuid primary key,
  provider        text not null,
  provider_id     text not null,
  user_id         uuid not null references auth.users (id) on delete cascade,
  identity_data   jsonb not null default '{}',
  email           varchar(255) generated always as (lower(identity_data ->> 'email')) stored,
  last_sign_in_at timestamptz,
  created_at      timestamptz default now(),
  updated_at      timestamptz default now(),
  unique (provider, provider_id)
);
create index if not exists identities_user_id_idx on auth.identities (user_id);

create table if not exists auth.sessions (
  id           uuid primary key,
  user_id      uuid not null references auth.users (id) on delete cascade,
  not_after    timestamptz,
  refreshed_at timestamp,
  user_agent   text,
  ip           inet,
  aal          text check (aal in ('aal1', 'aal2', 'aal3')),
  factor_id    uuid,
  created_at   timestamptz default now(),
  updated_at   timestamptz default now()
);
create index if not exists sessions_user_id_idx on auth.sessions (user_id);

grant all on auth.users, auth.identities, auth.sessions to postgres;
