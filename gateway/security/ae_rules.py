"""Who may open an association: the called and the calling AE title and the network address (PS3.8 9.3.4)."""

import ipaddress

from gateway.config import AECaller, Dimse, Security
from gateway.security.audit import AuditLog, Event, NullAudit, Outcome
from gateway.security.caller import Caller, Right

_REJECTED_PERMANENT = 1
_SERVICE_USER = 1
_CALLING_NOT_RECOGNIZED = 3
_CALLED_NOT_RECOGNIZED = 7

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rejected(Exception):
    """The association is refused; the three numbers are those of the A-ASSOCIATE-RJ PDU (PS3.8 table 9-21)."""

    def __init__(self, result: int, source: int, reason: int, message: str) -> None:
        super().__init__(message)
        self.result = result
        self.source = source
        self.reason = reason


class AERules:
    """The rules of `[dimse]` and `[security]`. AE titles are compared without padding, case included (PS3.5 6.2).

    When no callers are named, every AE title is admitted with all rights: the configuration has made sure that this
    is on loopback or was asked for (`open = true`). When some are named, one of them must match, open or not.
    Rejections are audited, with the calling AE title as it was given.
    """

    def __init__(self, dimse: Dimse, security: Security, *, audit: AuditLog | None = None) -> None:
        self._audit = audit or NullAudit()
        self._called = dimse.ae_title if dimse.require_called_ae_title else None
        self._callers = tuple((caller, _networks(caller)) for caller in security.callers)

    def admit(self, called: str, calling: str, address: str) -> Caller:
        """The caller at the other end; raises Rejected with the reason that the standard has for it.

        A title that is known but calls from another address is refused like an unknown one: the standard has no
        reason for it, and a stranger learns nothing.
        """
        called, calling = called.strip(" \0"), calling.strip(" \0")
        if self._called is not None and called != self._called:
            raise self._rejection(_CALLED_NOT_RECOGNIZED, "called AE title not recognized", calling, address)
        rights = self._rights(calling, address)
        if not rights:
            raise self._rejection(_CALLING_NOT_RECOGNIZED, "calling AE title not recognized here", calling, address)
        return Caller(calling, address, "dimse", rights)

    def knows(self, address: str) -> bool:
        """Whether any caller may come from `address`, by whatever title."""
        if not self._callers:
            return True
        host = _host(address)
        return any(host in network for _, networks in self._callers for network in networks)

    def _rejection(self, reason: int, message: str, calling: str, address: str) -> Rejected:
        rejected = Rejected(_REJECTED_PERMANENT, _SERVICE_USER, reason, message)
        triple = f"rejected {rejected.result}/{rejected.source}/{reason}"
        self._audit.record(Event("associate", Outcome.DENIED, calling, address, "dimse", reason=triple))
        return rejected

    def _rights(self, calling: str, address: str) -> frozenset[Right]:
        """The rights of every entry that matches, together."""
        if not self._callers:
            return frozenset(Right)
        known = [(caller, networks) for caller, networks in self._callers if caller.ae_title == calling]
        if not known:
            return frozenset()
        host = _host(address)
        return frozenset(
            right
            for caller, networks in known
            if any(host in network for network in networks)
            for right in caller.rights
        )


def _networks(caller: AECaller) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(address, strict=False) for address in caller.addresses)


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address; an IPv4 peer of a dual-stack socket (`::ffff:10.0.0.1`) as the IPv4 address it is."""
    host = ipaddress.ip_address(address)
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        return host.ipv4_mapped
    return host
