"""Importing CSV files of customers, messages and calls through the API, as a user."""
