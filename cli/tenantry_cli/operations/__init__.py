"""Looking after the databases of the fleet: what goes on in them, and what must be done in time."""
