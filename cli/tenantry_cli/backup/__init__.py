"""Saving organizations and fleets, and bringing them back without what was taken away since."""
