"""The proof as one page: what was tried, what noticed what, and what remains."""
