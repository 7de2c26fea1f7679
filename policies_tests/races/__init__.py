"""Races: people who do conflicting things at the same moment, and what must hold afterwards."""
