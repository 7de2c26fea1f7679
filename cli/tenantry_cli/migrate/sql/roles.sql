-- The roles that migrations set something of.
select 'role', quote_ident(r.rolname), concat_ws(' ', r.rolinherit, r.rolbypassrls, r.rolconfig::text)
from pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'integrator')
