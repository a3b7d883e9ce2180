"""No address that leads inside is sent to, however it is written."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.addresses import FORBIDDEN_IPV4, is_forbidden

INSIDE = [
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.8",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]

inner = st.sampled_from(FORBIDDEN_IPV4).flatmap(
    lambda network: st.integers(0, network.num_addresses - 1).map(lambda host: network[host])
)
ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)


def spelt(prefix: str, address: IPv4Address, shift: int = 0) -> IPv6Address:
    """An IPv4 address inside of an IPv6 one."""
    return IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)


@pytest.mark.parametrize("address", INSIDE)
def test_what_leads_inside_is_forbidden(address: str) -> None:
    assert is_forbidden(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_on_the_internet_is_not(address: str) -> None:
    assert not is_forbidden(address)


@given(ipv4)
def test_an_address_and_its_other_spellings_are_judged_alike(address: IPv4Address) -> None:
    forbidden = is_forbidden(address)

    assert is_forbidden(spelt("::ffff:0:0", address)) == forbidden
    assert is_forbidden(spelt("64:ff9b::", address)) == forbidden


@given(inner)
def test_no_spelling_makes_a_forbidden_address_allowed(address: IPv4Address) -> None:
    teredo = IPv6Address(int(IPv6Address("2001::")) | (int(address) ^ 0xFFFFFFFF))
    sixtofour = spelt("2002::", address, shift=80)

    assert all(is_forbidden(each) for each in (address, teredo, sixtofour, spelt("::", address)))


@given(ipv4 | ipv6)
def test_nothing_is_allowed_that_the_standard_library_knows_to_be_private(
    address: IPv4Address | IPv6Address,
) -> None:
    """It knows too few of them; those it knows must be among ours."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    meant = mapped or address
    if meant.is_private or meant.is_multicast or meant.is_reserved or meant.is_loopback:
        in_nat64 = meant in IPv6Network("64:ff9b::/96") if meant.version == 6 else False
        assert is_forbidden(address) or in_nat64


@given(inner)
def test_an_operators_network_is_allowed_in_every_spelling(address: IPv4Address) -> None:
    own = (IPv4Network(address),)

    assert not is_forbidden(address, own)
    assert not is_forbidden(spelt("::ffff:0:0", address), own)


def test_an_operators_network_allows_nothing_beside_it() -> None:
    own = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))

    assert not is_forbidden("10.1.255.255", own)
    assert not is_forbidden("fd00:1::1", own)
    assert is_forbidden("10.2.0.0", own)
    assert is_forbidden("fd00:2::1", own)


def test_what_is_no_address_is_not_let_through() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        is_forbidden("0x7f000001")
