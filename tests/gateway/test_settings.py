"""Settings: read from the environment, and refused with the variable's name and the remedy."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from tenantry_gateway.settings import Settings, SettingsError, describe

GOOD = {
    "GATEWAY_POSTGREST_URL": "http://127.0.0.1:3000",
    "GATEWAY_AUTH_URL": "http://127.0.0.1:3001/",
    "GATEWAY_FUNCTIONS_URL": "http://[::1]:3002",
    "GATEWAY_JWT_SECRET": "s" * 32,
    "GATEWAY_ANON_KEY": "a" * 30,
    "GATEWAY_SERVICE_ROLE_KEY": "b" * 30,
    "GATEWAY_PUBLISHABLE_KEY": "sb_publishable_" + "c" * 20,
    "GATEWAY_SECRET_KEY": "sb_secret_" + "d" * 20,
}


def test_what_is_needed_and_what_is_assumed():
    settings = Settings.from_environment(GOOD | {"OTHER": "x", "GATEWAY_CONSOLE_DIR": ""})
    assert settings.auth_url == "http://127.0.0.1:3001"
    assert settings.functions_url == "http://[::1]:3002"
    assert (settings.host, settings.port) == ("127.0.0.1", 54321)
    assert settings.lite_secret_key == settings.secret_key
    assert settings.lite_publishable_key == settings.publishable_key
    assert settings.max_body_bytes == 2**20
    assert (settings.boot_gate, settings.boot_gate_seconds) == ("enforce", 60)
    assert settings.console_dir is None
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


def test_secrets_do_not_show():
    shown = repr(Settings.from_environment(GOOD))
    for name, value in GOOD.items():
        if name.endswith(("_KEY", "_SECRET")):
            assert value not in shown


def test_every_missing_variable_is_named_at_once():
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({})
    for name in GOOD:
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGREST_URL", "127.0.0.1:3000"),
        ("POSTGREST_URL", "http://127.0.0.1:3000/rest"),
        ("POSTGREST_URL", "http://user:password@127.0.0.1"),
        ("AUTH_URL", "ftp://127.0.0.1"),
        ("AUTH_URL", "http://127.0.0.1?x=1"),
        ("JWT_SECRET", "s" * 31),
        ("ANON_KEY", "short"),
        ("ANON_KEY", "é" * 30),
        ("PORT", "x"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "٣"),
        ("RATE", "nan"),
        ("RATE", "-1"),
        ("BODY_SECONDS", "0"),
        ("MAX_BODY_BYTES", "1e6"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://app.example/path"),
        ("CORS_ORIGINS", "*,https://app.example"),
        ("STORAGE_ACCESS", "everyone"),
        ("LOG_REQUESTS", "yes"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("BOOT_GATE", "on"),
        ("BOOT_GATE_SECONDS", "0"),
        ("TRUSTED_PROXIES", "proxy.example"),
    ],
)
def test_a_wrong_value_names_its_variable_and_is_not_repeated(name, value):
    with pytest.raises(SettingsError) as error:
        Settings.from_environment(GOOD | {f"GATEWAY_{name}": value})
    lines = str(error.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"GATEWAY_{name} ")
    if "KEY" in name or "SECRET" in name:
        assert value not in lines[0]


def test_two_keys_that_are_the_same():
    same = GOOD | {"GATEWAY_SECRET_KEY": GOOD["GATEWAY_PUBLISHABLE_KEY"]}
    with pytest.raises(SettingsError, match="GATEWAY_PUBLISHABLE_KEY and GATEWAY_SECRET_KEY"):
        Settings.from_environment(same)


def test_good_values():
    settings = Settings.from_environment(
        GOOD
        | {
            "GATEWAY_CORS_ORIGINS": "https://app.example, http://localhost:5173",
            "GATEWAY_RATE": "0",
            "GATEWAY_BODY_SECONDS": "1.5",
            "GATEWAY_LITE_SECRET_KEY": "sb_secret_other",
            "GATEWAY_STORAGE_ACCESS": "users",
            "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/24, 2001:db8::1",
        }
    )
    assert settings.cors_origins == ("https://app.example", "http://localhost:5173")
    assert (settings.rate, settings.body_seconds) == (0, 1.5)
    assert settings.lite_secret_key == "sb_secret_other"


def test_the_description_names_every_variable():
    text = describe()
    for name in (*GOOD, "GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_CONSOLE_DIR"):
        assert name in text
