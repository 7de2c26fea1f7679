"""Settings from the environment: complete and well-formed, or a sentence with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry_functions.settings import Settings, SettingsError

GOOD = {
    "FUNCTIONS_PUBLIC_ORIGIN": "https://api.example.com",
    "FUNCTIONS_DATABASE_URL": "postgresql://integrator:hidden@127.0.0.1/postgres",
}


def read(**changes: str) -> Settings:
    return Settings.from_environment({**GOOD, **{f"FUNCTIONS_{k}": v for k, v in changes.items()}})


def test_the_least() -> None:
    settings = read()
    assert settings.public_origin == "https://api.example.com"
    assert settings.functions_dir.joinpath("tenantry_functions").is_dir()
    assert settings.only == ("*",)
    assert settings.publishable_keys == settings.secret_keys == ()


def test_the_most(tmp_path: Path) -> None:
    settings = read(
        PUBLIC_ORIGIN="http://127.0.0.1:54321/",
        DIR=str(tmp_path),
        ONLY="twilio-*, whatsapp-cloud",
        REST_URL="http://127.0.0.1:54321/rest/v1/",
        JWT_SECRET="s" * 32,
        PUBLISHABLE_KEY="sb_publishable_1",
        ANON_KEY="anon",
        SECRET_KEY=" ",
        SERVICE_ROLE_KEY="service",
        POOL_MAX="4",
        ELSEWHERE_DATABASES_MAX="7",
    )
    assert settings.public_origin == "http://127.0.0.1:54321"
    assert settings.functions_dir == tmp_path.resolve()
    assert settings.only == ("twilio-*", "whatsapp-cloud")
    assert settings.rest_url == "http://127.0.0.1:54321/rest/v1"
    assert settings.publishable_keys == ("sb_publishable_1", "anon")
    assert settings.secret_keys == ("service",)
    assert (settings.pool_max, settings.elsewhere_databases_max) == (4, 7)


@pytest.mark.parametrize("name", ["PUBLIC_ORIGIN", "DATABASE_URL"])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"FUNCTIONS_{name} is not set"):
        read(**{name: "  "})


@pytest.mark.parametrize(
    "origin",
    [
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https://api.example.com/functions",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        "https://user:pass@api.example.com",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        "https://bücher.example",
    ],
)
def test_origins(origin: str) -> None:
    with pytest.raises(SettingsError, match="FUNCTIONS_PUBLIC_ORIGIN"):
        read(PUBLIC_ORIGIN=origin)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIR", "/no/such/folder"),
        ("JWT_SECRET", "short"),
        ("POOL_MAX", "0"),
        ("POOL_MAX", "many"),
        ("POOL_WAIT_SECONDS", "60"),
        ("STATEMENT_TIMEOUT_MS", "nan"),
        ("RETRY_INTERVAL_SECONDS", "-1"),
    ],
)
def test_senseless_values(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FUNCTIONS_{name}"):
        read(**{name: value})


def test_secrets_are_not_shown() -> None:
    settings = read(JWT_SECRET="h" * 40, SECRET_KEY="sb_secret_hidden", ANON_KEY="anon-hidden")
    for secret in ("hidden", "h" * 40):
        assert secret not in repr(settings)


def test_the_app_is_made_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from tenantry_functions import app as module

    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(vars(module), "app", raising=False)
    first = module.app
    assert first is module.app
    monkeypatch.delitem(vars(module), "app")
    monkeypatch.delenv("FUNCTIONS_PUBLIC_ORIGIN")
    with pytest.raises(SettingsError):
        _ = module.app
    with pytest.raises(AttributeError):
        _ = module.nonsense
