select set_config('search_path', current_schema() || ', extensions, pg_temp', true);

call private.create_registry_views(current_schema());
