"""The proof over HTTP: through the real PostgREST, on connections that tenants share."""
