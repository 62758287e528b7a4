"""Key Vault's data plane for certificates: every vault by its Host header, public parts only.

Shapes follow GetCertificate of the official specification; there is no way to a private key here.
"""

import base64
import re
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from sandbox.identity import Refusal, application, refusal
from sandbox.world import Certificate, Server, Vault, Version, World

AUDIENCE = "https://vault.azure.net"

_PATH = re.compile(r"/(?P<kind>certificates|deletedcertificates)/(?P<name>[^/]+)(?:/(?P<version>[^/]*))?")
_RECOVERABLE_DAYS = 90
_UNAUTHORIZED = {
    Refusal.MISSING: "AKV10000: Request is missing a Bearer or PoP token.",
    Refusal.UNKNOWN: "AKV10001: Error validating token: IDX10500",
    Refusal.EXPIRED: "AKV10002: Error validating token: IDX10223: Lifetime validation failed.",
    Refusal.WRONG_AUDIENCE: f"AKV10022: Invalid audience. Expected {AUDIENCE}.",
}


class KeyVault:
    """The server of all vaults.

    Args:
        world: where the vaults are.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def app(self) -> web.Application:
        """The server."""
        return application(self._world, Server.VAULT, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        if why := refusal(self._world, request, [AUDIENCE]):
            challenge = (
                f'Bearer authorization="https://login.microsoftonline.com/{self._world.tenant_id}", '
                f'resource="{AUDIENCE}"'
            )
            error = _error(401, "Unauthorized", _UNAUTHORIZED[why])
            error.headers["WWW-Authenticate"] = challenge
            return error
        vault = self._vault(request)
        if vault is None:
            return _error(404, "VaultNotFound", f"There is no vault at {request.host}.")
        if request.path.startswith("/secrets"):
            return _error(403, "Forbidden", "Caller is not authorized to perform action on resource.")
        return self._certificates(request, vault)

    def _certificates(self, request: web.Request, vault: Vault) -> web.Response:
        path = _PATH.fullmatch(request.path)
        if (request.method, request.path) == ("GET", "/certificates"):
            return self._list(request, vault)
        if path is None or request.method != "GET":
            return _error(404, "NotFound", f"There is nothing at {request.method} {request.path}.")
        if not request.query.get("api-version"):
            return _error(400, "BadParameter", "api-version must be specified")
        certificate = vault.certificates.get(path["name"].casefold())
        return (
            self._deleted(certificate, path)
            if path["kind"][0] == "d"
            else self._get(request, certificate, path)
        )

    def _vault(self, request: web.Request) -> Vault | None:
        host = request.host.partition(":")[0].casefold()
        return next((vault for vault in self._world.vaults.values() if vault.host.casefold() == host), None)

    def _get(
        self, request: web.Request, certificate: Certificate | None, path: re.Match[str]
    ) -> web.Response:
        if certificate is None or certificate.deleted:
            return _not_found(path["name"])
        if path["version"] == "versions":
            return self._versions(request, certificate)
        wanted = path["version"] or certificate.newest.id
        version = next((version for version in certificate.versions if version.id == wanted), None)
        if version is None:
            return _not_found(f"{path['name']}/{wanted}")
        if not version.enabled and self._world.disabled_certificate_answers == 403:
            message = "Operation get is not allowed on a disabled certificate."
            return _error(403, "Forbidden", message, inner="CertificateDisabled")
        return web.json_response(bundle(version))

    def _versions(self, request: web.Request, certificate: Certificate) -> web.Response:
        size = int(request.query.get("maxresults", "25"))
        start = int(request.query.get("$skiptoken", "0"))
        after = start + size
        following = request.url.update_query({"$skiptoken": str(after), "maxresults": str(size)})
        items = [_item(version) for version in certificate.versions[start:after]]
        more = after < len(certificate.versions)
        return web.json_response({"value": items, "nextLink": str(following) if more else None})

    def _list(self, request: web.Request, vault: Vault) -> web.Response:
        size, start = (int(request.query.get(name, "0")) for name in ("maxresults", "$skiptoken"))
        there = [each for each in vault.certificates.values() if not each.deleted]
        after = start + (size or 25)
        following = request.url.update_query({"$skiptoken": str(after)})
        items = [
            _item(each.newest) | {"id": f"https://{vault.host}/certificates/{each.name}"}
            for each in there[start:after]
        ]
        return web.json_response({"value": items, "nextLink": str(following) if after < len(there) else None})

    def _deleted(self, certificate: Certificate | None, path: re.Match[str]) -> web.Response:
        if certificate is None or certificate.deleted is None:
            return _not_found(path["name"], "deleted ")
        body = bundle(certificate.newest) | {
            "recoveryId": f"https://{certificate.vault.host}/deletedcertificates/{certificate.name}",
            "deletedDate": _seconds(certificate.deleted),
            "scheduledPurgeDate": _seconds(certificate.deleted + timedelta(days=_RECOVERABLE_DAYS)),
        }
        return web.json_response(body)


def bundle(version: Version) -> dict[str, Any]:
    """A version as GetCertificate answers it."""
    certificate = version.certificate
    address, name = f"https://{certificate.vault.host}", certificate.name
    return {
        "id": f"{address}/certificates/{name}/{version.id}",
        "kid": f"{address}/keys/{name}/{version.id}",
        "sid": f"{address}/secrets/{name}/{version.id}",
        "x5t": _x5t(version),
        "cer": base64.b64encode(version.der).decode(),
        "attributes": _attributes(version),
        "policy": _policy(version, f"{address}/certificates/{name}/policy"),
    }


def _item(version: Version) -> dict[str, Any]:
    everything = bundle(version)
    return {key: everything[key] for key in ("id", "x5t", "attributes")}


def _attributes(version: Version) -> dict[str, Any]:
    return {
        "enabled": version.enabled,
        "nbf": _seconds(version.not_before),
        "exp": _seconds(version.not_after),
        "created": _seconds(version.created),
        "updated": _seconds(version.updated),
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": _RECOVERABLE_DAYS,
    }


def _policy(version: Version, identifier: str) -> dict[str, Any]:
    first = version.certificate.versions[0]
    return {
        "id": identifier,
        "key_props": {"exportable": True, "kty": "EC", "key_size": 256, "crv": "P-256", "reuse_key": False},
        "secret_props": {"contentType": "application/x-pkcs12"},
        "x509_props": {
            "subject": version.leaf.subject,
            "sans": {"dns_names": list(version.leaf.names)},
            "ekus": ["1.3.6.1.5.5.7.3.1"],
            "key_usage": ["digitalSignature"],
            "validity_months": max(1, (version.not_after - version.not_before).days // 30),
        },
        "lifetime_actions": [
            {"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "AutoRenew"}},
        ],
        "issuer": {"name": "DigiCert"},
        "attributes": {
            "enabled": True,
            "created": _seconds(first.created),
            "updated": _seconds(first.created),
        },
    }


def _x5t(version: Version) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(version.thumbprint)).decode().rstrip("=")


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _not_found(name: str, kind: str = "") -> web.Response:
    message = (
        f"A {kind}certificate with (name/id) {name} was not found in this key vault. If you recently deleted "
        "this certificate you may be able to recover it using the correct recovery command."
    )
    return _error(404, "CertificateNotFound", message)


def _error(status: int, code: str, message: str, inner: str | None = None) -> web.Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return web.json_response({"error": error}, status=status)
