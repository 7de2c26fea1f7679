"""Addresses: parsed, compared with networks, and read from what trusted proxies say."""

from __future__ import annotations

import pytest

from tenantry_gateway.addresses import (
    client_address,
    lies_in,
    parse_address,
    parse_network,
    site_of,
)


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.0.0.0", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3/32", True),
        ("10.1.2.4", "10.1.2.3/32", False),
        ("10.1.2.3", "10.1.2.99/24", True),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "::ffff:10.0.0.0/104", True),
        ("10.1.2.3", "::/0", False),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("", "0.0.0.0/0", False),
        ("unix", "::/0", False),
        ("010.1.2.3", "10.0.0.0/8", False),
    ],
)
def test_lies_in(address, network, inside):
    assert lies_in(parse_address(address), [parse_network(network)]) is inside


def test_an_empty_list_holds_nobody():
    assert not lies_in(parse_address("10.0.0.1"), [])


def test_a_site_is_an_address_or_what_a_subscriber_has():
    assert site_of("10.1.2.3") == site_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert site_of("2001:db8:0:1::5") == site_of("2001:db8:0:1:ffff::") == "2001:db8:0:1::/64"
    assert site_of("") == ""


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["10.9.9.9"], "203.0.113.9"),  # nobody we know
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),  # the first is the client's claim
        ("10.0.0.1", ["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),  # two of our proxies
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
    ],
)
def test_client_address(peer, forwarded, client):
    assert client_address(peer, forwarded, [parse_network("10.0.0.0/24")]) == client


def test_without_trusted_proxies_nobody_is_believed():
    assert client_address("10.0.0.1", ["203.0.113.9"], ()) == "10.0.0.1"
