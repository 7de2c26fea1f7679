"""The clients that products are built with: supabase-js and supabase-py, unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest
import supabase
from postgrest.exceptions import APIError
from supabase import Client
from supabase.lib.client_options import SyncClientOptions
from supabase_auth.errors import AuthApiError

from tenantry_cli.project import find_project
from tenantry_cli.stack.programs import find_node

pytestmark = pytest.mark.stack


def test_supabase_js_from_sign_up_to_sign_out(local_stack):
    project = find_project()
    script = Path(__file__).with_name("supabase_js.mjs")
    node = find_node()
    result = subprocess.run(
        # Node 20 has WebSocket only behind this flag; newer ones accept it.
        [str(node), "--experimental-websocket", "--no-warnings", str(script)],
        env={**os.environ, **local_stack.variables(), "RUN": uuid.uuid4().hex[:8]},
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])
    assert facts["session_after_sign_up"] is True
    assert facts["profile"] == "Ana Front"
    assert facts["slug"] == "shop"
    assert (facts["ben_before"], facts["ben_after"], facts["ben_removed"]) == (0, 1, 0)
    assert facts["second_accept"] == 404
    assert facts["embedded"] == [
        {
            "display_name": "Jörg Müller",
            "primary_phone": "+4930901820",
            "contact_points": [{"kind": "phone", "normalized": "+4930901820"}],
        }
    ]
    assert facts["updated"] == "customer"
    assert facts["found"] == ["Jörg Müller"]
    assert (facts["viewer_reads"], facts["viewer_writes"]) == (1, 403)
    assert facts["bad_phone"]["status"] == 400
    assert facts["bad_phone"]["hint"]
    assert facts["deleted"] == 1
    assert facts["after_sign_out"] == 401
    assert (facts["wrong_password"], facts["sign_in"]) == (400, True)


# supabase-py warns of its own arguments.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_supabase_py_from_sign_up_to_sign_out(local_stack, http):
    def create_client(url: str, key: str) -> Client:
        # Connections of our own: supabase-py does not close those that it makes.
        return supabase.create_client(url, key, SyncClientOptions(httpx_client=http))

    run = uuid.uuid4().hex[:8]
    ana = create_client(local_stack.origin, local_stack.keys.publishable_key)
    ben = create_client(local_stack.origin, local_stack.keys.publishable_key)
    password = "a-good-password"
    for client, name in ((ana, "ana"), (ben, "ben")):
        signed_up = client.auth.sign_up(
            {"email": f"{name}-{run}@people.example", "password": password}
        )
        assert signed_up.session is not None

    organization = ana.rpc("create_organization", {"name": f"Py {run}", "country": "US"}).execute()
    business = ana.rpc(
        "create_business",
        {"organization_id": organization.data["id"], "name": "Desk", "timezone": "UTC"},
    ).execute()
    business_id = business.data["id"]

    invitation = ana.rpc(
        "invite_member",
        {"business_id": business_id, "email": f"BEN-{run}@People.Example", "role": "staff"},
    ).execute()
    ben.rpc("accept_invitation", {"token": invitation.data[0]["token"]}).execute()

    customer = ben.rpc(
        "create_customer", {"business_id": business_id, "first_name": "Zoë", "phone": "2125550123"}
    ).execute()
    assert customer.data["primary_phone"] == "+12125550123"
    with pytest.raises(APIError) as again:
        ben.rpc("create_customer", {"business_id": business_id, "phone": "+12125550123"}).execute()
    assert again.value.code == "23505"
    rows = ana.table("customers").select("*", count="exact").eq("business_id", business_id)
    answer = rows.execute()
    assert (answer.count, answer.data[0]["display_name"]) == (1, "Zoë")
    ana.table("customers").update({"notes": "called"}).eq("id", customer.data["id"]).execute()
    with pytest.raises(APIError) as forbidden:
        ben.rpc(
            "invite_member", {"business_id": business_id, "email": "x@y.example", "role": "viewer"}
        ).execute()
    assert forbidden.value.code == "42501"

    demo = create_client(local_stack.origin, local_stack.keys.anon_key)  # the legacy key works too
    demo.auth.sign_in_with_password(
        {"email": "owner@bluebird.example", "password": "tenantry-demo"}
    )
    assert demo.table("customers").select("id").eq("business_id", business_id).execute().data == []
    with pytest.raises(AuthApiError):
        demo.auth.sign_in_with_password({"email": "owner@bluebird.example", "password": "wrong"})

    service = create_client(local_stack.origin, local_stack.keys.secret_key)
    assert service.table("customers").select("id").eq("business_id", business_id).execute().data
    ana.auth.sign_out()
    with pytest.raises(APIError):
        ana.table("customers").select("id").execute()
