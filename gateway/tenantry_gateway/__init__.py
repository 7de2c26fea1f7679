"""The edge: one origin with Supabase's paths, in front of all services of a project."""
