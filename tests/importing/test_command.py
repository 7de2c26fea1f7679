"""The command, on a running stack: as users type it, with what they get to read."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tenantry import Tenantry
from tenantry_cli.main import app
from tenantry_cli.output import console

from .conftest import CHINOOK, SMS

pytestmark = pytest.mark.stack

COMMAND = (sys.executable, "-m", "tenantry_cli", "import")
OWNER = {"TENANTRY_EMAIL": "owner@bluebird.example", "TENANTRY_PASSWORD": "tenantry-demo"}
VIEWER = {**OWNER, "TENANTRY_EMAIL": "viewer@bluebird.example"}


@pytest.fixture(scope="module")
def client(local_stack):
    with Tenantry(local_stack.origin, local_stack.keys.publishable_key) as one:
        one.auth.sign_in(email=OWNER["TENANTRY_EMAIL"], password=OWNER["TENANTRY_PASSWORD"])
        yield one


@pytest.fixture
def business(client):
    """A new business of the demo owner, with an SMS and a voice channel; returns its slug."""
    organization = client.organizations.create(name=f"Import {uuid4().hex[:8]}", country="US")
    made = client.businesses.create(
        organization_id=organization.id, name=organization.name, timezone="America/New_York",
        country="US", currency="USD",
    )  # fmt: skip
    client.use(made.id)
    for kind in ("sms", "voice"):
        client.channels.create(kind=kind, name="Desk", address="+14155550142")
    return made.slug


@pytest.fixture
def command(local_stack, monkeypatch):
    """Runs `tenantry import` with the environment of somebody who uses that stack."""
    monkeypatch.setattr(console, "width", 200)

    def run(*arguments: object, who=OWNER) -> Result:
        settings = dict.fromkeys(name for name in os.environ if name.startswith("TENANTRY_"))
        done = CliRunner().invoke(
            app, ["import", *map(str, arguments)], env=settings | environment(local_stack, who)
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


def environment(stack, who) -> dict[str, str]:
    keys = {"TENANTRY_API_URL": stack.origin, "TENANTRY_API_KEY": stack.keys.publishable_key}
    return keys | who


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_chinook_in_two_goes(command, client, business, tmp_path):
    refused = command("customers", CHINOOK, "--business", business)
    assert refused.exit_code == 1
    assert re.search(r"^8 +phone +\+453 3331 9991 ", refused.stdout, re.M)
    assert re.search(r"^36 +phone +\+56 \(0\)2 635 4444 ", refused.stdout, re.M)
    assert "nothing is stored: 33 new, 2 bad" in refused.stdout
    assert "left out: fax_raw, support_rep_id, region, phone_e164_truth" in refused.stderr
    assert list(client.customers.list()) == []

    report = tmp_path / "bad.csv"
    partly = command("customers", CHINOOK, "-b", business, "--skip-bad", "--report", report)
    assert partly.exit_code == 0
    assert f"customers into {business}: 33 new, 2 bad" in partly.stdout
    with report.open(encoding="utf-8-sig", newline="") as file:
        assert [(row["line"], row["field"]) for row in csv.DictReader(file)] == [
            ("8", "phone"),
            ("36", "phone"),
        ]
    arguments = ("customers", CHINOOK, "-b", business, "--keep-invalid-phones", "-o", "json")
    rest = json.loads(command(*arguments).stdout)
    assert (rest["created"], rest["already_there"], rest["is_stored"]) == (2, 33, True)
    again = json.loads(command(*arguments).stdout)
    assert (again["created"], again["already_there"], again["bad"]) == (0, 35, 0)
    stored = {one.primary_email: one for one in client.customers.list()}
    assert len(stored) == 35
    assert stored["luisg@embraer.com.br"].display_name == "Luís Gonçalves"
    assert stored["kara.nielsen@jubii.dk"].notes == "Unverified phone: +453 3331 9991"


def test_the_sms_collection(command, client, business):
    done = command("messages", SMS, "-b", business, "--channel", "+14155550142")
    assert done.exit_code == 0, done.stderr
    assert f"messages into {business}: 3381 new" in done.stdout
    (thread,) = list(client.conversations.list())
    assert (thread.peer, thread.message_count, thread.customer_id) == ("unknown", 3381, None)
    again = command("messages", SMS, "-b", business)
    assert f"messages into {business}: 3381 there already" in again.stdout
    assert list(client.customers.list()) == []


def test_calls_with_columns_of_another_name(command, client, business, tmp_path):
    file = write(
        tmp_path / "calls.csv",
        "Wer;Beginn;Richtung;Dauer;Notiz",
        "(212) 555-0123;2026-03-01 10:00;incoming;1:05;Termin",
        "030 901820;2026-03-01 11:00;outgoing;0;",
    )
    names = ["peer=Wer", "started_at=Beginn", "direction=Richtung", "duration_seconds=Dauer",
             "notes=Notiz"]  # fmt: skip
    choices = [part for name in names for part in ("--column", name)]
    refused = command("calls", file, "-b", business, *choices)
    assert refused.exit_code == 1
    assert "nothing is stored: 1 new, 1 bad" in refused.stdout
    write(file, file.read_text().rstrip().replace("(212) 555-0123", "+1 212 555 0123"))
    done = command("calls", file, "-b", business, *choices, "--region", "Germany")
    assert f"calls into {business}: 2 new" in done.stdout
    calls = {one.peer: one for one in client.calls.list()}
    assert (calls["+12125550123"].duration_seconds, calls["+12125550123"].notes) == (65, "Termin")
    assert calls["+4930901820"].status == "no_answer"


def test_a_dry_run_says_what_would_be_and_stores_nothing(command, client, business, tmp_path):
    file = write(tmp_path / "people.csv", "name,phone", "Ana,2125550123", "Bo,2125550123", "Cy")
    done = command("customers", file, "-b", business, "--dry-run")
    assert done.exit_code == 1
    assert "dry run, nothing is stored: 1 new, 2 bad" in done.stdout
    assert "Line 2 has the same phone number" in done.stdout
    assert "The line has 1 values, the header has 2." in done.stdout
    write(file, "name,phone", "Ana,2125550123")
    assert command("customers", file, "-b", business, "--dry-run").exit_code == 0
    assert list(client.customers.list()) == []


def test_bad_rows_of_all_origins_stand_in_one_list_by_line(command, business, tmp_path):
    file = tmp_path / "people.csv"
    file.write_bytes(
        b"id,name,phone,email,country\n"
        b"1,Ana,+12125550123,,\n"
        b"2,Bo,12,,\n"
        b"3,Cy\n"
        b"4,D\x00,,,\n"
        b"5,Ed,+12125550123,no mail,Atlantis\n"
        b"6,Flo,+12125550123,,\n"
        b"7,=Gil,,=cmd()@x,\n"
        b"8,,,,\n"
    )
    report = tmp_path / "bad.csv"
    done = command("customers", file, "-b", business, "--report", report, "-o", "json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert (result["rows"], result["bad"], result["is_stored"]) == (8, 7, False)
    assert [(one["line"], one["field"]) for one in result["problems"]] == [
        (3, "phone"), (4, ""), (5, "name"), (6, "country"), (6, "email"), (7, "phone"),
        (8, "email"), (9, "first_name"),
    ]  # fmt: skip
    assert all(one["problem"] and one["remedy"] for one in result["problems"])
    assert "'=cmd()@x" in report.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--business", "copperline-print"], "you have no business 'copperline-print'. Yours: "),
        (["--business", "c0000000-0000-4000-8000-000000000003"], "you have no business"),
        (["-b", "bluebird-dental", "--column", "x=y"], "write FIELD=COLUMN"),
        (["-b", "bluebird-dental", "--region", "Atlantis"], "--region Atlantis: use a country"),
        (["-b", "bluebird-dental", "--delimiter", "|"], "use comma, semicolon, tab"),
        (["-b", "bluebird-dental", "--stage", "vip"], "stage is not a known stage."),
        (["-b", "bluebird-dental", "--source", "My CRM"], "source must be a short name."),
        (["-b", "bluebird-dental", "-o", "env"], "--output must be pretty or json here"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(command, arguments, told):
    done = command("customers", CHINOOK, *arguments)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_viewer_and_a_wrong_password_are_refused(command):
    done = command("customers", CHINOOK, "-b", "bluebird-dental", who=VIEWER)
    assert done.exit_code == 1
    assert "You do not hold customers.write in this business." in done.stderr
    done = command("customers", CHINOOK, "-b", "x", who={**OWNER, "TENANTRY_PASSWORD": "wrong"})
    assert "Invalid login credentials" in done.stderr
    done = command("customers", CHINOOK, "-b", "x", who={})
    assert "as whom? Give --email" in done.stderr


def test_a_token_is_enough(command, client, business, tmp_path):
    file = write(tmp_path / "people.csv", "name", "Ana")
    token = {"TENANTRY_ACCESS_TOKEN": client.auth.session.access_token}
    assert command("customers", file, "-b", business, who=token).exit_code == 0


def test_messages_need_one_channel(command, client, business, tmp_path):
    file = write(tmp_path / "texts.csv", "text", "Hi")
    client.channels.create(kind="whatsapp", name="Desk", address="+14155550142")
    done = command("messages", file, "-b", business)
    assert "say which with --channel: " in done.stderr
    done = command("messages", file, "-b", business, "-c", "+14155550142")
    assert "several channels match --channel +14155550142" in done.stderr
    done = command("messages", file, "-b", business, "-c", "voice")
    assert "no channel matches --channel voice" in done.stderr
    done = command("messages", file, "-b", business, "-c", "whatsapp:+14155550142", "--peer",
                   "2125550123", "--direction", "outbound")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    (thread,) = list(client.conversations.list())
    (message,) = list(client.messages.list(conversation_id=thread.id))
    assert (thread.peer, message.direction, message.status) == ("+12125550123", "outbound", "sent")


def test_a_large_file_is_refused_whole_and_stored_in_parts(command, client, business, tmp_path):
    file = tmp_path / "many.csv"
    lines = ["id,name", *(f"{n},P{n}" for n in range(2600))]
    write(file, *lines)
    done = command("customers", file, "-b", business)
    assert done.exit_code == 1
    assert "One transaction imports at most 2500 customers; these are 2600." in done.stderr
    assert "Store it --in-parts, or split the file." in done.stderr
    assert list(client.customers.list()) == []
    done = command("customers", file, "-b", business, "--in-parts")
    assert f"customers into {business}: 2600 new" in done.stdout


def test_a_command_killed_while_it_sends_leaves_nothing(local_stack, client, business, tmp_path):
    file = tmp_path / "many.csv"
    write(file, "id,name,phone", *(f"{n},P{n},+1212{2000000 + n}" for n in range(2400)))
    staged = "select count(*) from import_rows where business_id = %s"
    with local_stack.server.connect(autocommit=True) as operator:
        process = subprocess.Popen(
            [*COMMAND, "customers", str(file), "-b", business],
            env=os.environ | environment(local_stack, OWNER),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            deadline = time.monotonic() + 60
            while not operator.execute(staged, (client.business_id,)).fetchone()[0]:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        # A request that was on its way ends as a whole, too.
        time.sleep(1)
        assert list(client.customers.list()) == []
        assert operator.execute(staged, (client.business_id,)).fetchone()[0] < 2400
        drift = "select count(*) from metric_drift where business_id = %s"
        assert operator.execute(drift, (client.business_id,)).fetchone()[0] == 0
    done = subprocess.run(
        [*COMMAND, "customers", str(file), "-b", business, "--in-parts"],
        env=os.environ | environment(local_stack, OWNER),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(client.customers.list())) == 2400


def test_the_local_stack_is_found_without_an_address(local_stack, client, business, tmp_path):
    file = write(tmp_path / "people.csv", "name", "Ana")
    done = subprocess.run(
        [*COMMAND, "customers", str(file), "-b", business],
        env={**os.environ, "TENANTRY_HOME": str(tmp_path / "nothing"), **OWNER},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the stack is not running: start it with `tenantry up`" in done.stderr
