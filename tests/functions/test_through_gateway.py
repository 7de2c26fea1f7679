"""Twilio's requests through the whole stack: the gateway must keep URL, headers and body whole."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row
from twilio.request_validator import RequestValidator

from tenantry import Tenantry
from tenantry_cli.stack.control import RunningStack
from tenantry_cli.testing import Database
from tenantry_functions.testing import encode_form, local_settings, memory_host

pytestmark = pytest.mark.stack

FUNCTIONS = Path(__file__).parents[2] / "functions"
MESSAGE = {
    "AccountSid": "AC00000000000000000000000000000001",
    "MessageSid": "SM1",
    "SmsStatus": "received",
    "From": "+14155550123",
    "To": "+14155550199",
    "Body": "Ça va? 👋 + & = %",
    "ToCity": "",
}


@pytest.fixture
def line(local_stack: RunningStack, new_tenant: Any) -> Iterator[Any]:
    database = Database(local_stack.server, "postgres")
    with psycopg.connect(
        database.url("postgres"), autocommit=True, row_factory=dict_row
    ) as connection:
        yield new_tenant(database, connection)


def post(
    stack: RunningStack, target: str, form: dict[str, str], secret: str
) -> tuple[int, str, bytes]:
    signature = RequestValidator(secret).compute_signature(stack.origin + target, form)
    address = urlsplit(stack.origin)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(
            "POST",
            target,
            encode_form(form),
            {
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                "X-Twilio-Signature": signature,
                "I-Twilio-Idempotency-Token": "61ea4cae-0000-4000-8000-000000000000",
                "User-Agent": "TwilioProxy/1.1",
                "Accept": "*/*",
            },
        )
        answer = connection.getresponse()
        return answer.status, answer.headers.get("content-type", ""), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("query", ["", "?b=2&a=1", "?x=%E2%82%AC&y=a+b&z=%2F&empty="])
def test_a_message(local_stack: RunningStack, line: Any, query: str) -> None:
    target = f"/functions/v1/twilio-messaging/{line.connection.id}{query}"
    assert post(local_stack, target, MESSAGE, "forged")[0] == 401
    assert line.rows("messages") == []
    status, kind, body = post(local_stack, target, MESSAGE, line.SECRET)
    assert (status, kind) == (200, "text/xml; charset=utf-8")
    assert b"<Response" in body
    (message,) = line.rows("messages")
    assert message["body"] == MESSAGE["Body"]


def test_a_call_is_answered_with_urls_of_ours(local_stack: RunningStack, line: Any) -> None:
    form = {k: MESSAGE[k] for k in ("AccountSid", "From", "To")}
    form |= {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound"}
    target = f"/functions/v1/twilio-voice/{line.connection.id}"
    status, _, body = post(local_stack, target, form, line.SECRET)
    assert status == 200
    callback = f"{local_stack.origin}{target}/recording"
    assert callback.encode() in body
    # And Twilio can call it.
    recorded = {**form, "RecordingSid": "RE1", "RecordingStatus": "completed"}
    assert post(local_stack, f"{target}/recording", recorded, line.SECRET)[0] == 200
    (call,) = line.rows("calls")
    assert call["recording"]["sid"] == "RE1"


@pytest.mark.parametrize("name", ["twilio-voice", "twilio-messaging"])
@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl"
)
def test_the_example_of_the_readme(local_stack: RunningStack, line: Any, name: str) -> None:
    readme = (FUNCTIONS / name / "README.md").read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", readme, re.S)
    values = {
        "API_URL": local_stack.origin,
        "CONNECTION_ID": str(line.connection.id),
        "ACCOUNT_SID": line.connection.account_ref,
        "AUTH_TOKEN": line.SECRET,
    }
    done = subprocess.run(
        ["sh", "-ec", script],
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("HTTP/1.1 200"), done.stdout
    assert len(line.rows("webhook_events")) == 1


MINE = """
from starlette.responses import JSONResponse

from tenantry_functions import edge


@edge(auth="user")
async def handler(ctx, request):
    businesses = await ctx.rest.select("businesses", select="id,name")
    customer = await ctx.rest.rpc(
        "create_customer", business_id=businesses[0]["id"], first_name="Ana"
    )
    return JSONResponse({"businesses": businesses, "customer": customer["display_name"]})
"""


def test_a_function_calls_the_gateway_as_its_user(
    local_stack: RunningStack, tmp_path: Path
) -> None:
    keys = local_stack.keys
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.py").write_text(MINE)
    (folder / "function.toml").write_text('description = "What is mine."\nauth = "user"\n')
    settings = local_settings(
        functions_dir=tmp_path,
        rest_url=f"{local_stack.origin}/rest/v1",
        jwt_secret=keys.jwt_secret,
        publishable_keys=(keys.publishable_key,),
    )
    with Tenantry(local_stack.origin, keys.publishable_key) as user:
        user.auth.sign_up(email="function@example.test", password="long enough for a test")
        organization = user.organizations.create(name="Mine")
        business = user.businesses.create(
            organization_id=organization.id,
            name="Mine",
            timezone="UTC",
            country="US",
            currency="USD",
        )
        session = user.auth.session
        assert session is not None
        token = [("authorization", f"Bearer {session.access_token}")]
        with memory_host(settings=settings) as host:
            for tenant in ([], [("x-tenant", str(business.id))]):
                answer = host.call("mine", headers=[*token, *tenant])
                assert (answer.status, answer.json()) == (
                    200,
                    {
                        "businesses": [{"id": str(business.id), "name": "Mine"}],
                        "customer": "Ana",
                    },
                )
