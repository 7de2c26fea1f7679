"""`python -m tenantry_gateway`: serve until stopped. Exit status 2 for wrong settings."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from tenantry_gateway.server import serve_until_signal
from tenantry_gateway.settings import PREFIX, Settings, SettingsError, describe


def main() -> int:
    """Run the gateway with the settings of the environment."""
    if len(sys.argv) > 1:
        print(f"usage: python -m tenantry_gateway\n\nsettings:\n{describe()}")
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"the gateway cannot start:\n{error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        asyncio.run(serve_until_signal(settings))
    except OSError as error:
        print(
            f"the gateway cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            f"choose another {PREFIX}PORT",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
