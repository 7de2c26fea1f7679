"""The kernel of Tenantry's functions: thin handlers, everything around them in one place."""

from tenantry_functions.errors import FunctionError, Unavailable
from tenantry_functions.kernel import Context, edge

__all__ = ["Context", "FunctionError", "Unavailable", "edge"]
