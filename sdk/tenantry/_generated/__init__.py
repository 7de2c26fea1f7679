"""Generated from the catalog by tools/generate_sdk_models.py. Nothing here is hand-made."""
