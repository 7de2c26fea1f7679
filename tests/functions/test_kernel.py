"""What every function gets around its handler."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from uuid import UUID, uuid4

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tenantry_functions import Context, edge
from tenantry_functions.errors import FunctionError
from tenantry_functions.inbox import MemoryInbox
from tenantry_functions.loader import LoadError, load_functions
from tenantry_functions.logs import JsonLines
from tenantry_functions.providers.twilio import Twilio
from tenantry_functions.testing import (
    PUBLISHABLE_KEY,
    SECRET_KEY,
    FunctionHost,
    local_settings,
    memory_host,
)

Host = FunctionHost[MemoryInbox]
CANARY = "canary-5f1c-secret"
FUNCTIONS = {
    "whoami": (
        "user",
        """
        @edge(methods=("GET", "POST"))
        async def handler(ctx, request):
            return JSONResponse({"user": str(ctx.caller.user_id), "path": ctx.path})
        """,
    ),
    "open": (
        "none",
        """
        @edge(auth="none")
        async def handler(ctx, request):
            return JSONResponse({"got": ctx.json()})
        """,
    ),
    "widget": (
        "publishable",
        """
        @edge(auth="publishable")
        async def handler(ctx, request):
            return JSONResponse({})
        """,
    ),
    "job": (
        "secret",
        """
        @edge(auth="secret")
        async def handler(ctx, request):
            return JSONResponse({})
        """,
    ),
    "broken": (
        "none",
        """
        @edge(auth="none")
        async def handler(ctx, request):
            raise RuntimeError("select * from private.keys -- canary-5f1c-secret")
        """,
    ),
    "refusing": (
        "none",
        """
        @edge(auth="none")
        async def handler(ctx, request):
            raise FunctionError(409, "taken", "name is taken; choose another.", field="name")
        """,
    ),
    "slow": (
        "none",
        """
        import asyncio
        @edge(auth="none")
        async def handler(ctx, request):
            await asyncio.sleep(30)
        """,
    ),
}


def write_function(
    folder: Path, name: str, code: str, manifest: str = 'description = "x"\nauth = "none"\n'
) -> None:
    (folder / name).mkdir(parents=True)
    head = (
        "from starlette.responses import JSONResponse\n"
        "from tenantry_functions import Context, FunctionError, edge\n"
    )
    (folder / name / "main.py").write_text(head + dedent(code))
    (folder / name / "function.toml").write_text(manifest)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions")
    for name, (auth, code) in FUNCTIONS.items():
        limits = "max_body_bytes = 1000\ntimeout_seconds = 0.2\n"
        write_function(folder, name, code, f'description = "x"\nauth = "{auth}"\n{limits}')
    return folder


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    with memory_host(settings=local_settings(functions_dir=folder)) as host:
        yield host


class TestErrors:
    def test_a_fault_of_ours_tells_nothing(
        self, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.ERROR, "tenantry.functions"):
            answer = host.call("broken", body={})
        body = answer.json()
        assert answer.status == 500
        assert set(body) == {"error", "code", "request_id"}
        assert body["code"] == "internal_error"
        assert isinstance(body["error"], str)
        for leak in (CANARY, "Traceback", "select", "RuntimeError", "main.py"):
            assert leak not in answer.text
        # The log has the whole story, under the same id.
        (record,) = caplog.records
        assert CANARY in JsonLines().format(record)
        assert body["request_id"] == answer.headers["x-request-id"]

    def test_a_refusal_names_the_field(self, host: Host) -> None:
        answer = host.call("refusing", body={})
        assert answer.status == 409
        body = answer.json()
        assert body.pop("request_id")
        assert body == {"error": "name is taken; choose another.", "code": "taken", "field": "name"}

    def test_too_slow(self, host: Host) -> None:
        answer = host.call("slow", body={})
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert "retry-after" in answer.headers

    def test_unknown_function_and_path(self, host: Host) -> None:
        for target in ("nobody", "nobody/x", "whoami%00", "..%2fwhoami"):
            answer = host.call(target)
            assert (answer.status, answer.json()["code"]) == (404, "not_found")
        for path in ("/", "/functions/v1", "/functions/v1/", "/rest/v1/customers"):
            answer = host.request("GET", path, b"", [])
            assert answer.status == 404
            assert answer.headers["x-request-id"] == answer.json()["request_id"]

    def test_request_id(self, host: Host) -> None:
        given = host.call("refusing", headers=[("x-request-id", "abc-1.2_3")])
        assert given.headers["x-request-id"] == given.json()["request_id"] == "abc-1.2_3"
        for bad in ("", "a b", "a\r\nset-cookie: x", "é", "x" * 129, "{}"):
            made = host.call("refusing", headers=[("x-request-id", bad)]).headers["x-request-id"]
            assert UUID(made)
        first, second = (host.call("refusing").headers["x-request-id"] for _ in "ab")
        assert first != second


class TestBodies:
    def test_limit(self, host: Host) -> None:
        assert host.call("open", body=b'"' + b"x" * 998 + b'"').status == 200
        assert host.call("open", body=b'"' + b"x" * 999 + b'"').status == 413
        assert host.call("open", headers=[("content-length", "1001")]).status == 413

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "Expecting value"),
            (b"{", "Expecting property"),
            (b'{"a":1,"a":2}', "same name twice"),
            (b"NaN", "NaN"),
            (b"-Infinity", "Infinity"),
            (b"1e400", "too large"),
            (b'"\\u0000"', "NUL"),
            (b'{"\\ud800": 1}', "surrogate"),
            (b'"\xff"', "UTF-8"),
            (b"[" * 40 + b"]" * 40, "deeper than 32"),
            (b"[" * 900, "Expecting value"),
        ],
    )
    def test_json(self, host: Host, body: bytes, reason: str) -> None:
        answer = host.call("open", body=body)
        assert (answer.status, answer.json()["code"]) == (400, "invalid_json")
        assert reason in answer.json()["error"]

    def test_depth(self, host: Host) -> None:
        assert host.call("open", body=b"[" * 32 + b"]" * 32).status == 200
        assert host.call("open", body=b"[" * 33 + b"]" * 33).status == 400

    def test_a_body_that_never_ends(self, folder: Path) -> None:
        with memory_host(settings=local_settings(functions_dir=folder)) as host:
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/functions/v1/open",
                "raw_path": b"/functions/v1/open",
                "query_string": b"",
                "headers": [],
            }
            sent: list[dict[str, object]] = []

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": b"x" * 400, "more_body": True}

            async def send(message: dict[str, object]) -> None:
                sent.append(message)

            host.run(host.app(scope, receive, send))  # type: ignore[arg-type]
            assert sent[0]["status"] == 413

    def test_a_client_that_goes_away(self, host: Host) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/functions/v1/open",
            "raw_path": b"/functions/v1/open",
            "query_string": b"",
            "headers": [],
        }
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        host.run(host.app(scope, receive, send))  # type: ignore[arg-type]
        assert sent[0]["status"] == 400


class TestCors:
    def test_preflight_comes_before_authentication(self, host: Host) -> None:
        for name in ("whoami", "widget", "job", "open"):
            answer = host.call(name, method="OPTIONS", headers=[("origin", "https://x.example")])
            assert answer.status == 204
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "authorization" in answer.headers["access-control-allow-headers"]
            assert "OPTIONS" in answer.headers["access-control-allow-methods"]

    def test_answers_can_be_read(self, host: Host) -> None:
        for answer in (host.call("open", body={}), host.call("whoami"), host.call("broken")):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "key", "status"),
        [
            ("widget", PUBLISHABLE_KEY, 200),
            ("widget", SECRET_KEY, 200),
            ("widget", None, 401),
            ("widget", "", 401),
            ("widget", PUBLISHABLE_KEY + "x", 401),
            ("job", SECRET_KEY, 200),
            ("job", PUBLISHABLE_KEY, 401),
            ("job", None, 401),
            ("job", "é", 401),
        ],
    )
    def test_keys(self, host: Host, name: str, key: str | None, status: int) -> None:
        assert host.call(name, body={}, key=key).status == status

    def test_two_keys_are_ambiguous(self, host: Host) -> None:
        both = [("apikey", SECRET_KEY), ("apikey", SECRET_KEY)]
        assert host.call("job", body={}, headers=both).status == 401

    def test_no_configured_key_lets_nobody_in(self, folder: Path) -> None:
        settings = local_settings(functions_dir=folder, publishable_keys=(), secret_keys=("",))
        with memory_host(settings=settings) as host:
            for key in (None, "", SECRET_KEY):
                assert host.call("job", body={}, key=key).status == 401
                assert host.call("widget", body={}, key=key).status == 401

    def test_a_users_token_is_no_key(self, host: Host) -> None:
        assert host.call("job", body={}, as_user=uuid4()).status == 401


class TestContext:
    def test_path_and_caller(self, host: Host) -> None:
        user = uuid4()
        answer = host.call("whoami/a/b%20c/", as_user=user)
        assert answer.json() == {"user": str(user), "path": "a/b c"}

    def test_methods(self, host: Host) -> None:
        assert host.call("whoami", method="GET", as_user=uuid4()).status == 200
        answer = host.call("whoami", method="DELETE", as_user=uuid4())
        assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")

    def test_what_a_function_has_not_asked_for_it_does_not_have(self, host: Host) -> None:
        context = Context("id", "name", "", host.app.state.services)
        for name in ("caller", "delivery"):
            with pytest.raises(RuntimeError, match="only a function with"):
                getattr(context, name)
        with pytest.raises(RuntimeError, match="FUNCTIONS_REST_URL"):
            _ = context.rest

    def test_auth_and_provider_go_together(self) -> None:
        with pytest.raises(ValueError, match="provider"):
            edge(auth="webhook")
        with pytest.raises(ValueError, match="provider"):
            edge(auth="none", provider=Twilio())


class TestLoading:
    good = """
    @edge(auth="none")
    async def handler(ctx, request): ...
    """

    @pytest.mark.parametrize(
        ("name", "code", "manifest", "says"),
        [
            ("Bad_Name", good, None, "lower case"),
            ("no-handler", "x = 1", None, "define `handler`"),
            ("undecorated", "async def handler(ctx, request): ...", None, "define `handler`"),
            ("other-auth", good, 'description = "x"\nauth = "user"', "make them the same"),
            ("typo", good, 'description = "x"\nauth = "none"\nmax_bytes = 1', "max_bytes"),
            ("wrong-type", good, 'description = "x"\nauth = "none"\nmax_body_bytes = "1"', "type"),
            ("no-auth", good, 'description = "x"', "add auth"),
            ("not-toml", good, "auth =", "function.toml"),
        ],
    )
    def test_a_wrong_folder_stops_the_start(
        self, tmp_path: Path, name: str, code: str, manifest: str | None, says: str
    ) -> None:
        write_function(tmp_path, name, code, manifest or 'description = "x"\nauth = "none"\n')
        with pytest.raises(LoadError, match=says):
            load_functions(tmp_path)

    def test_missing_manifest_and_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match="No function matches"):
            load_functions(tmp_path)
        write_function(tmp_path, "one", self.good)
        (tmp_path / "one" / "function.toml").unlink()
        with pytest.raises(LoadError, match=r"function\.toml is missing"):
            load_functions(tmp_path)

    def test_a_subset_can_be_mounted(self, folder: Path) -> None:
        assert set(load_functions(folder, ("wh*", "job"))) == {"whoami", "job"}

    def test_the_projects_own_functions(self) -> None:
        functions = load_functions(local_settings().functions_dir)
        assert {"twilio-voice", "twilio-messaging"} <= set(functions)
        for loaded in functions.values():
            home = local_settings().functions_dir / loaded.name
            assert len((home / "main.py").read_text().splitlines()) < 150
            assert "curl" in (home / "README.md").read_text()


class TestReadme:
    text = (local_settings().functions_dir / "README.md").read_text()

    def block(self, language: str, number: int = 0) -> str:
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.S)[number]

    def test_the_example_function_loads(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "main.py").write_text(self.block("python"))
        (tmp_path / "mine" / "function.toml").write_text(self.block("toml"))
        loaded = load_functions(tmp_path)["mine"]
        assert (loaded.function.auth, loaded.limits.timeout_seconds) == ("user", 10)

    def test_the_example_test_passes(self) -> None:
        exec(self.block("python", 1), {})  # noqa: S102  the text of our own README

    def test_every_setting_is_listed(self) -> None:
        source = (local_settings().functions_dir / "tenantry_functions/settings.py").read_text()
        read = set(re.findall(r'(?:required|optional|number)\("([A-Z_]+)"', source))
        read |= {"PUBLISHABLE_KEY", "ANON_KEY", "SECRET_KEY", "SERVICE_ROLE_KEY"}
        listed = set(re.findall(r"`FUNCTIONS_([A-Z_]+)`", self.text))
        assert listed == read


class TestOperation:
    def test_health_readiness_metrics(self, host: Host) -> None:
        assert host.request("GET", "/healthz", b"", []).json() == {"status": "ok"}
        assert host.request("GET", "/readyz", b"", []).status == 200
        host.call("refusing")
        text = host.request("GET", "/metrics", b"", []).text
        counted = 'tenantry_functions_requests_total{function="refusing",status="409"} 1.0'
        assert counted in text

    def test_many_at_once_keep_their_own_ids(
        self, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def all_of_them() -> list[str]:
            ids = [f"request-{i}" for i in range(50)]
            answers = await asyncio.gather(
                *(
                    host.send("POST", "/functions/v1/refusing", b"", [("x-request-id", i)])
                    for i in ids
                )
            )
            assert [a.headers["x-request-id"] for a in answers] == ids
            return ids

        host.run(all_of_them())

    def test_handlers_are_callable_by_hand(self, host: Host) -> None:
        @edge(auth="none")
        async def handler(ctx: Context, request: Request) -> Response:
            if not ctx.body:
                raise FunctionError(400, "empty", "Send something.")
            return JSONResponse({})

        function = replace(handler, methods=("PUT",))
        assert function.handler is handler.handler
        assert function.methods == ("PUT",)
