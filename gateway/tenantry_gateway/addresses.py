"""Network addresses: whose request it is, and whether an address lies in a list of networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED_BITS = 96  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2
_SITE_BITS = 64  # what one subscriber of IPv6 has at the least


def parse_address(text: str) -> Address | None:
    """An address without its zone, IPv4 where IPv6 only wraps it; None where it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> Network:
    """A network in CIDR notation or a single address. Raises ValueError."""
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def lies_in(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether one of the networks holds the address; an unknown address lies in none."""
    return address is not None and any(
        address.version == one.version and address in one for one in networks
    )


def site_of(text: str) -> str:
    """The address, or for IPv6 the network that one subscriber has."""
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE_BITS), strict=False))
    return str(address or text)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of the client: the peer's own, unless the peer is a trusted proxy.

    `forwarded` are the X-Forwarded-For headers in their order. Each proxy appends whom it heard,
    so they are read from the end, as far as trusted proxies wrote them. What is not an address
    there counts as the proxy that passed it on.
    """
    if not trusted or not lies_in(parse_address(peer), trusted):
        return peer
    client = peer
    for text in reversed([one.strip() for header in forwarded for one in header.split(",")]):
        address = parse_address(text)
        if address is None:
            break
        client = str(address)
        if not lies_in(address, trusted):
            break
    return client
