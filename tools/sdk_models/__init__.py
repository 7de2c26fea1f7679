"""Parts of tools/generate_sdk_models.py: reading the catalog, and writing the models."""
