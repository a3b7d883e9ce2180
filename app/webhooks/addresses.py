"""Which addresses nothing of ours is sent to on a user's word: the table, and how it is asked.

A table of our own: `is_private` and `is_global` of the standard library let through shared and
transition addresses that lead inside.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The special-purpose registry of IANA, and multicast.
FORBIDDEN_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers', and some clouds' own services
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# Nothing outside of it is anybody's address on the Internet.
UNICAST_IPV6 = IPv6Network("2000::/3")
FORBIDDEN_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # the IETF's own, Teredo among them: a tunnel to any IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4: the same
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
# Another spelling of an IPv4 address: mapped, and translated by a NAT64.
SPELLINGS = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def is_forbidden(address: str | Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether nothing may be sent there.

    Args:
        address: As a resolver gives it.
        allowed: Networks that the operator lets webhooks lead into, whatever the table says.
    """
    meant = _meant(ip_address(address))
    if any(meant in network for network in allowed):
        return False
    if isinstance(meant, IPv4Address):
        return any(meant in network for network in FORBIDDEN_IPV4)
    # With a scope it is link-local, and no network holds it.
    return (
        meant.scope_id is not None
        or meant not in UNICAST_IPV6
        or any(meant in network for network in FORBIDDEN_IPV6)
    )


def _meant(address: Address) -> Address:
    """The address itself, behind whatever spelling."""
    if isinstance(address, IPv6Address) and any(address in each for each in SPELLINGS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
