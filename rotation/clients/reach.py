"""Which addresses the probe may connect to: names in ARM and DNS are outside data."""

import ipaddress
from dataclasses import dataclass

ANY_PRIVATE = "all"
"""In place of a network: every private one."""

_AZURE_PLATFORM = ipaddress.ip_address("168.63.129.16")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64 (RFC 6052): the last 32 bits are an IPv4 address."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Reach:
    """Public addresses, and what settings say: private `networks` in CIDR, hosts and ports by name.

    `named` may lead to any private address, because a person has written them down.
    """

    networks: tuple[str, ...] = ()
    named: frozenset[tuple[str, int]] = frozenset()

    def refuses(self, host: tuple[str, int], address: str) -> str | None:
        """Why a host that is at this IP address is not connected to; None where it may be."""
        ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
        if _nobodys(ip):
            return address
        if ip.is_global or host in self.named or any(_within(ip, network) for network in self.networks):
            return None
        return f"{address} is private: name its network in ROTATION_PRIVATE_NETWORKS if gateways are there"


def _within(ip: IpAddress, network: str) -> bool:
    return network == ANY_PRIVATE or ip in ipaddress.ip_network(network)


def _inner(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address leads to, where it leads to one."""
    if ip.version == 4:
        return ip
    if ip in _TRANSLATED or 1 < int(ip) < 1 << 32:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def _nobodys(ip: IpAddress) -> bool:
    """Addresses that no gateway has: ours, the link's (metadata too), the platform's, unassigned."""
    of_no_host = ip.is_multicast or ip.is_unspecified
    unassigned = ip.version == 4 and (ip.is_reserved or int(ip) >> 24 == 0)
    return ip.is_loopback or ip.is_link_local or of_no_host or unassigned or ip == _AZURE_PLATFORM
