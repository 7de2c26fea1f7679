"""The proof of isolation: see README.md in this directory."""
