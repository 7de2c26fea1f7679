"""What a type checker says to users of the SDK: results have types, and mistakes are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from tenantry import AsyncTenantry, Tenantry
from tenantry.models import Customer
from tenantry.testing import FakeTenantry


def takes(client: Tenantry) -> None: ...


client = Tenantry("http://api.test", "key")
reveal_type(client.customers.get("x"))  # T: tenantry._generated.models.Customer
reveal_type(client.customers.find(phone="x"))  # T: tenantry._generated.models.Customer | None
reveal_type([c.tags for c in client.customers.list()])  # T: list[list[str]]
reveal_type(client.calls.list().page().items)  # T: list[tenantry._generated.models.Call]
reveal_type(client.customers.get("x").deleted_at)  # T: datetime.datetime | None
client.customers.update("x", first_name=None, tags=["a"])
client.customers.update("x", frist_name="A")  # E: Unexpected keyword argument "frist_name"
client.customers.update("x", tags=1)  # E: incompatible type
client.customers.create(phone=1)  # E: incompatible type
client.calls.log(direction="inbound")  # E: Missing named argument "peer"
client.customers.get("x").first_name = "A"  # E: is read-only
takes(FakeTenantry())


async def main(aclient: AsyncTenantry) -> None:
    reveal_type(await aclient.customers.get("x"))  # T: tenantry._generated.models.Customer
    found: list[Customer] = [c async for c in aclient.customers.list()]
    for c in aclient.customers.list():  # E: has no attribute "__iter__"
        found.append(c)
"""


@pytest.mark.slow
def test_a_type_checker_knows_results_and_finds_mistakes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    configuration = tmp_path / "mypy.ini"
    configuration.write_text("[mypy]\nstrict = True\nplugins = pydantic.mypy\n")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", configuration, "--no-error-summary",
         "--cache-dir", tmp_path / "cache", program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said: dict[int, str] = {}
    for number, text in re.findall(r"program\.py:(\d+): (.*)", run.stdout):
        said[int(number)] = said.get(int(number), "") + text
    for number, line in enumerate(PROGRAM.splitlines(), start=1):
        expected = re.search(r"  # ([TE]): (.*)$", line)
        if expected is None:
            assert number not in said, f"{line}\n{said[number]}"
            continue
        kind = "Revealed type" if expected[1] == "T" else "error:"
        assert kind in said.get(number, ""), f"{line}\n{run.stdout}{run.stderr}"
        assert expected[2] in said[number], f"{line}\n{said[number]}"
