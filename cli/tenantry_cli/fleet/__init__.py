"""The fleet: organizations pooled, in schemas and in databases of their own; moves between them."""
