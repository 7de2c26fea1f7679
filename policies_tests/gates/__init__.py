"""Catalog gates: queries that must find nothing, each with a planted violation it must find."""

from __future__ import annotations

from . import citus, comments, constraints, functions, grants, policies, roles, tables, views
from .gate import Gate, Plant, find

GATES: tuple[Gate, ...] = (
    *tables.GATES,
    *constraints.GATES,
    *policies.GATES,
    *grants.GATES,
    *functions.GATES,
    *views.GATES,
    *roles.GATES,
    *comments.GATES,
    *citus.GATES,
)

__all__ = ["GATES", "Gate", "Plant", "find"]
