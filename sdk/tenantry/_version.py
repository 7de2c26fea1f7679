"""The version of the SDK; pyproject.toml says the same, and a test compares."""

__version__ = "0.1.0"
