"""The local stack: Postgres, PostgREST, Auth and Storage, functions and gateway without Docker."""
