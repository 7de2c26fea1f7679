"""Saving organizations and whole fleets, and bringing them back without what was taken away since."""
