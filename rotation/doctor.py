"""What is well with an installation and what is not: facts in, a line for each check out. Pure.

Every line says what was looked at, its level, the cause and the next step; docs/cli.md lists the checks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from rotation.events import Occasion
from rotation.model import (
    Binding,
    CertificateUnreadable,
    CertificateVersion,
    Gateway,
    ProbeFailure,
    ServedCertificate,
    UnreadableCause,
    Verdict,
    clean,
)
from rotation.named_values import WRITE_ACTION

SYNC_ACTION = "Microsoft.ApiManagement/service/refreshHostnames/action"
GET_SECRET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"  # noqa: S105 - the name of a right

SMALL_SKEW, LARGE_SKEW = timedelta(minutes=1), timedelta(minutes=5)
"""Entra refuses tokens when clocks are more than five minutes apart."""

HEEDED = tuple(f"Microsoft.KeyVault.Certificate{occasion}" for occasion in Occasion)

READS_SECRETS: Mapping[str, str] = {
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
    "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba": "Key Vault Certificate User",
}
"""Built-in roles with secrets/getSecret: https://learn.microsoft.com/azure/role-based-access-control."""


class Level(StrEnum):
    """How good or bad a line is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Line:
    """One check of one subject; `step` is empty where there is nothing to do."""

    check: str
    subject: str
    level: Level
    cause: str
    step: str = ""

    def to_json(self) -> dict[str, object]:
        """For `doctor --json`."""
        return {
            "check": self.check,
            "subject": self.subject,
            "level": self.level,
            "cause": self.cause,
            "next_step": self.step,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What a GET gave: `status` is None where there was no HTTP answer, `detail` then says why.

    `items` is the `value` of a list, all pages together, where there is one.
    """

    status: int | None
    body: Any = None
    detail: str = ""
    date: datetime | None = None

    @property
    def items(self) -> list[Mapping[str, Any]]:
        """The objects of a list answer; a bare array is one too."""
        found = self.body.get("value") if isinstance(self.body, Mapping) else self.body
        return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []

    @property
    def why(self) -> str:
        """A failure in words."""
        if self.status is None:
            return self.detail or "no answer"
        return f"HTTP {self.status} {self.detail}".strip()


def settings_are_right(mistakes: Sequence[str], *, enforce: bool) -> list[Line]:
    """The environment."""
    if mistakes:
        step = "Mend the variable; docs/settings.md lists them all."
        return [Line("settings", "environment", Level.FAILURE, mistake, step) for mistake in mistakes]
    mode = "enforce: the app asks for syncs" if enforce else "observe: the app only looks"
    return [Line("settings", "environment", Level.OK, f"all can be read; ROTATION_MODE is {mode}.")]


def identity_is_known(who: str, problem: str) -> Line:
    """`who` is signed in, or `problem` says why nobody is."""
    if problem:
        return Line(
            "identity",
            "token for ARM",
            Level.FAILURE,
            problem,
            "On a laptop run az login; in Azure give the app a managed identity and set AZURE_CLIENT_ID to a"
            " user-assigned one.",
        )
    return Line("identity", "token for ARM", Level.OK, f"signed in as {who}.")


def clock_is_right(ours: datetime, answer: Answer) -> Line:
    """Ours against the Date header of ARM."""
    if answer.date is None:
        return Line(
            "clock", "this machine", Level.WARNING, "ARM sent no Date to compare with.", "Look at arm."
        )
    skew = ours - answer.date
    seconds = skew.total_seconds()
    cause = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ARM."
    if abs(skew) <= SMALL_SKEW:
        return Line("clock", "this machine", Level.OK, cause)
    level = Level.WARNING if abs(skew) <= LARGE_SKEW else Level.FAILURE
    return Line("clock", "this machine", level, cause, "Let the machine set its clock by NTP.")


def arm_is_readable(subscription: str, answer: Answer, gateways: int, problems: Sequence[str]) -> Line:
    """A subscription in scope, and what was found there."""
    if answer.status != 200:
        also = f", but {gateways} API Management service(s) in it can" if gateways else ""
        return Line(
            "arm",
            subscription,
            Level.WARNING if gateways else Level.FAILURE,
            f"the subscription cannot be read ({answer.why}){also}.",
            "Give the identity the role Reader there, or correct ROTATION_SUBSCRIPTIONS.",
        )
    if mine := [problem for problem in problems if subscription in problem.lower()]:
        return Line("arm", subscription, Level.FAILURE, mine[0], "Look at the sentence before.")
    if not gateways:
        return Line(
            "arm",
            subscription,
            Level.WARNING,
            "readable, but no API Management service is in it, or none may be seen.",
            "Check ROTATION_SUBSCRIPTIONS, and that Reader is given on the services.",
        )
    return Line("arm", subscription, Level.OK, f"readable, {gateways} API Management service(s).")


def sync_is_granted(gateway: Gateway, answer: Answer, *, enforce: bool) -> Line:
    """Whether the caller may ask for a sync: Permissions_ListForResource."""
    if answer.status != 200:
        return Line(
            "sync action",
            gateway.name,
            Level.WARNING,
            f"the caller's permissions cannot be read ({answer.why}).",
            "Give the identity Reader on the service.",
        )
    action = gateway.kind.action
    if allows(answer.items, action):
        return Line("sync action", gateway.name, Level.OK, f"{action.split('/')[-2]} is granted.")
    return Line(
        "sync action",
        gateway.name,
        Level.FAILURE if enforce else Level.WARNING,
        f"{action} is not granted" + ("." if enforce else ", which observe does not need."),
        "Assign the role of infra/modules/gateway-rights.bicep on the service.",
    )


def named_value_is_granted(gateway: Gateway, answer: Answer) -> Line:
    """Whether the caller may write named values; asked for only where ROTATION_NAMED_VALUES is set."""
    if answer.status == 200 and allows(answer.items, WRITE_ACTION):
        return Line("named values", gateway.name, Level.OK, "may be written.")
    cause = f"{WRITE_ACTION} is not granted, so ROTATION_NAMED_VALUES has no effect."
    if answer.status != 200:
        cause = f"the caller's permissions cannot be read ({answer.why})."
    return Line(
        "named values",
        gateway.name,
        Level.WARNING,
        cause,
        "Add the action by extraSyncActions (docs/deploy.md).",
    )


def sync_is_registered(answer: Answer) -> Line:
    """Whether the provider lists the action, without which Azure refuses a custom role that names it."""
    listed = answer.body.get("resourceTypes", []) if isinstance(answer.body, Mapping) else []
    names = {
        str(operation.get("name", "")).lower() for kind in listed for operation in kind.get("operations", [])
    }
    if SYNC_ACTION.lower() in names:
        return Line("sync action", "Microsoft.ApiManagement", Level.OK, "the provider lists the action.")
    cause = "the provider does not list the action"
    if answer.status != 200:
        cause = f"the provider's operations cannot be read ({answer.why})"
    return Line(
        "sync action",
        "Microsoft.ApiManagement",
        Level.WARNING,
        f"{cause}, so a custom role that names it may be refused.",
        "Deploy with syncRole Wildcard or ServiceContributor (docs/deploy.md).",
    )


_VAULT_STEPS: Mapping[UnreadableCause, str] = {
    UnreadableCause.FORBIDDEN: (
        "Give the identity certificates get and list (Key Vault Reader, or an access policy), and let it"
        " through the vault's firewall."
    ),
    UnreadableCause.UNREACHABLE: "Check DNS and the network from here to the vault, and ROTATION_CONNECT_TO.",
    UnreadableCause.THROTTLED: "Run again later.",
}


def vault_is_readable(vault_host: str, verdicts: Iterable[Verdict]) -> Line:
    """Whether we can read the certificates that gateways refer to there."""
    expected = [v.evidence.expected for v in verdicts if of_vault(v, vault_host)]
    failed = [e for e in expected if isinstance(e, CertificateUnreadable)]
    if not failed:
        number = len({e.certificate for e in expected if isinstance(e, CertificateVersion)})
        return Line("vault", vault_host, Level.OK, f"{number} certificate(s) read, public part only.")
    first = failed[0]
    return Line(
        "vault",
        vault_host,
        Level.FAILURE,
        f"{first.certificate.name}: {first.cause} ({first.detail}).",
        _VAULT_STEPS.get(first.cause, "Look at the certificate in the vault, or at the binding."),
    )


def vault_is_found(vault_host: str, vault: Mapping[str, Any] | None) -> Line:
    """Its permission model and firewall, where ARM shows the vault."""
    if vault is None:
        return Line(
            "vault settings",
            vault_host,
            Level.WARNING,
            "the vault is not seen in ARM, so its rights, firewall and events cannot be checked.",
            "Give the identity Reader on the vault, and name its subscription too (--subscription).",
        )
    properties = _mapping(vault.get("properties"))
    model = "role assignments" if properties.get("enableRbacAuthorization") else "access policies"
    wall = "behind a firewall" if _walled(properties) else "open to all networks"
    return Line("vault settings", vault_host, Level.OK, f"rights by {model}, {wall}.")


def secrets_are_out_of_reach(vault_host: str, answer: Answer, vault: Mapping[str, Any], our_id: str) -> Line:
    """Whether *we* could read a private key, judged by rights: no secret is asked for."""
    step = "Take the right away: Key Vault Reader is enough for this app."
    properties = _mapping(vault.get("properties"))
    if properties.get("enableRbacAuthorization"):
        if answer.status != 200:
            cause = f"our rights cannot be read ({answer.why})."
            return Line("own secrets", vault_host, Level.WARNING, cause, "Give the identity Reader on it.")
        reads = allows(answer.items, GET_SECRET, kind="dataActions")
    elif not our_id:
        cause = "who we are is not in the token, so its access policies cannot be compared."
        return Line("own secrets", vault_host, Level.WARNING, cause, "Look at the vault's access policies.")
    else:
        reads = _policy_reads_secrets(properties, our_id)
    if reads:
        cause = "this identity may read secrets there, and with them private keys; it does not need to."
        return Line("own secrets", vault_host, Level.WARNING, cause, step)
    return Line("own secrets", vault_host, Level.OK, "this identity cannot read secrets, as it should be.")


def principal_of(binding: Binding, service: Mapping[str, Any]) -> str | None:
    """The object id of the identity with which a service reads the vault, None where it has no such."""
    identity = _mapping(service.get("identity"))
    if not binding.identity_client_id:
        return str(identity.get("principalId") or "") or None
    for assigned in _mapping(identity.get("userAssignedIdentities")).values():
        if str(_mapping(assigned).get("clientId", "")).lower() == binding.identity_client_id.lower():
            return str(assigned.get("principalId") or "") or None
    return None


def gateway_may_read(
    gateway: Gateway,
    binding: Binding,
    principal: str | None,
    vault: Mapping[str, Any],
    assignments: Answer,
) -> Line:
    """Whether the gateway's own identity exists and still has what it needs, weeks before it is missed."""
    properties = _mapping(vault.get("properties"))
    host = binding.reference.certificate.vault_host if binding.reference else ""
    subject = f"{gateway.name} -> {host}"
    if principal is None:
        cause = f"the {binding.identity} identity of {binding.hostname} does not exist on the service."
        step = "Give the service that identity again, and the identity Key Vault Secrets User on the vault."
        return Line("gateway identity", subject, Level.FAILURE, cause, step)
    level, cause, step = _granted(binding, principal, properties, assignments)
    if level is Level.OK and (wall := _stopped_by_firewall(binding, properties)):
        level, (cause, step) = Level.FAILURE, wall
    return Line("gateway identity", subject, level, cause, step)


def gateway_unread(gateway: Gateway, answer: Answer) -> Line:
    """The identities of a service that cannot be read itself."""
    cause = f"the service cannot be read ({answer.why}), so its identity is not checked."
    return Line("gateway identity", gateway.name, Level.WARNING, cause, "Give the caller Reader on it.")


def _granted(
    binding: Binding, principal: str, properties: Mapping[str, Any], assignments: Answer
) -> tuple[Level, str, str]:
    """By what the identity may read secrets, or what it lacks."""
    grant = "Give it Key Vault Secrets User on the vault (or GET on secrets in an access policy)."
    who = f"the {binding.identity} identity"
    if not properties.get("enableRbacAuthorization"):
        if _policy_reads_secrets(properties, principal):
            return Level.OK, f"{who} may read, by an access policy.", ""
        return Level.FAILURE, f"{who} ({principal}) is in no access policy with GET on secrets.", grant
    if assignments.status != 200:
        cause = f"its role assignments cannot be read ({assignments.why})."
        return Level.WARNING, cause, "Give the caller Reader on the vault."
    roles = [_role_of(item) for item in assignments.items]
    if known := [READS_SECRETS[role] for role in roles if role in READS_SECRETS]:
        return Level.OK, f"{who} may read, by {known[0]}.", ""
    if roles:
        return Level.WARNING, f"{who} has roles on the vault, but none that is known to read secrets.", grant
    return Level.FAILURE, f"{who} ({principal}) has no role on the vault.", grant


def _stopped_by_firewall(binding: Binding, properties: Mapping[str, Any]) -> tuple[str, str] | None:
    """Cause and step where the vault's firewall keeps API Management out."""
    trusted = _mapping(properties.get("networkAcls")).get("bypass") == "AzureServices"
    if not _walled(properties) or (trusted and not binding.identity_client_id):
        return None
    cause = (
        "the vault's firewall lets API Management through only with its system-assigned identity and with"
        " trusted Microsoft services allowed."
    )
    if binding.identity_client_id:
        return cause, "Bind the hostname with the system-assigned identity."
    return cause, "Allow trusted Microsoft services to bypass the vault's firewall."


def events_arrive(vault_host: str, subscriptions: Sequence[Mapping[str, Any]] | str) -> Line:
    """Whether an event subscription on the vault has all the types that the app heeds."""
    if isinstance(subscriptions, str):
        step = "Give the caller Reader on the vault's Event Grid topic; the timer still sees every renewal."
        return Line("events", vault_host, Level.WARNING, subscriptions, step)
    wanted = {kind.lower() for kind in HEEDED}
    step = "Run infra/scripts/subscribe-vaults.sh; until then the timer alone finds renewals."
    found = [(_heeded(subscription, wanted), _leads_to(subscription)) for subscription in subscriptions]
    if not found:
        cause = "no event subscription tells the app of renewals."
        return Line("events", vault_host, Level.WARNING, cause, step)
    heard, where = max(found, key=lambda each: len(each[0]))
    if missing := sorted(kind for kind in HEEDED if kind.lower() not in heard):
        short = ", ".join(kind.rpartition(".")[2] for kind in missing)
        return Line("events", vault_host, Level.WARNING, f"no event subscription has all of {short}.", step)
    return Line(
        "events", vault_host, Level.OK, f"an event subscription has every type, and leads to {where}."
    )


def _heeded(subscription: Mapping[str, Any], wanted: set[str]) -> set[str]:
    """The types that an event subscription lets through for every certificate of the vault."""
    properties = _mapping(subscription.get("properties"))
    filters = _mapping(properties.get("filter"))
    narrowed = any(filters.get(name) for name in ("subjectBeginsWith", "subjectEndsWith", "advancedFilters"))
    if narrowed or properties.get("provisioningState", "Succeeded") != "Succeeded":
        return set()
    included = filters.get("includedEventTypes")
    return wanted if included is None else {str(kind).lower() for kind in included} & wanted


def _leads_to(subscription: Mapping[str, Any]) -> str:
    """Where events go, by name: whoever reads it knows whether that is the app."""
    properties = _mapping(subscription.get("properties"))
    inner = _mapping(_mapping(properties.get("deliveryWithResourceIdentity")).get("destination"))
    destination = _mapping(properties.get("destination")) or inner
    place = _mapping(destination.get("properties"))
    parts = str(place.get("resourceId", "")).split("/")[8:]
    name = clean("/".join(parts[:1] + parts[2:])) or clean(place.get("endpointBaseUrl", ""))
    queue = clean(place.get("queueName", ""))
    return (
        "/".join(filter(None, (name, queue)))
        or clean(destination.get("endpointType", ""))
        or "a place unknown"
    )


def ledger_works(place: str, problem: str, *, local: bool) -> Line:
    """Whether attempts can be remembered, and by all who make them."""
    if problem:
        step = "Check ROTATION_LEDGER, and the role Storage Table Data Contributor on that account."
        return Line("ledger", place, Level.FAILURE, problem, step)
    if local:
        cause = "a local file: what this machine asks for is not known to the app, nor the other way round."
        step = "Set ROTATION_LEDGER to the app's table before resync, so that its limits hold."
        return Line("ledger", place, Level.WARNING, cause, step)
    return Line("ledger", place, Level.OK, "can be read.")


def insights_accept(*, accepted: bool | None) -> Line:
    """Whether Application Insights took an event; None where no connection string is set."""
    subject = "Application Insights"
    if accepted is None:
        cause, step = (
            "no connection string.",
            "Set APPLICATIONINSIGHTS_CONNECTION_STRING to have results kept.",
        )
        return Line("app insights", subject, Level.WARNING, cause, step)
    if not accepted:
        step = (
            "Check the connection string and the network; with Authorization=AAD the managed identity needs"
            " Monitoring Metrics Publisher, and a laptop has none."
        )
        return Line("app insights", subject, Level.FAILURE, "an event was not accepted.", step)
    return Line("app insights", subject, Level.OK, "took the event DoctorRan.")


def gateway_is_reached(gateway: Gateway, verdicts: Iterable[Verdict]) -> Line:
    """Whether handshakes reach every place of a gateway from here."""
    seen = [o for v in verdicts if v.evidence.gateway.key == gateway.key for o in v.evidence.observations]
    failures = [o for o in seen if isinstance(o, ProbeFailure)]
    reached = sum(isinstance(o, ServedCertificate) for o in seen)
    if not failures and reached:
        return Line("probe", gateway.name, Level.OK, f"{reached} of {len(seen)} handshakes showed a leaf.")
    step = (
        "For a private gateway run this, and the app, inside its network with ROTATION_PRIVATE_NETWORKS; or"
        " give its addresses in ROTATION_CONNECT_TO (docs/settings.md)."
    )
    if not failures:
        return Line("probe", gateway.name, Level.WARNING, "it has no address to connect to.", step)
    first = failures[0]
    where = f"the first with {first.endpoint.host}: {first.fault}"
    cause = f"{len(failures)} of {len(seen)} handshakes failed, {where}."
    level = Level.WARNING if reached else Level.FAILURE
    return Line("probe", gateway.name, level, cause, step)


def gateway_reaches_vault(gateway: Gateway, vault_hosts: Iterable[str], answer: Answer) -> Line:
    """API Management's own account of its network: NetworkStatus_ListByService, 15 minutes old at most."""
    if answer.status != 200:
        cause = f"networkstatus cannot be read ({answer.why})."
        step = "Give the caller Reader on the service; the v2 tiers may not offer it."
        return Line("network status", gateway.name, Level.WARNING, cause, step)
    hosts = {host.lower() for host in vault_hosts}
    checked = 0
    for place in answer.items:
        for status in _mapping(place.get("networkStatus")).get("connectivityStatus") or []:
            name = str(status.get("name", "")).lower()
            vault = "vault" in str(status.get("resourceType", "")).lower() or any(h in name for h in hosts)
            if vault and status.get("status") == "failure":
                region, error = clean(place.get("location")), clean(status.get("error"))
                cause = f"{region} does not reach {clean(name)}: {error}"
                step = "Look at DNS, NSG rules and the vault's firewall for the service's subnet."
                return Line("network status", gateway.name, Level.FAILURE, cause, step)
            checked += vault
    if not checked:
        return Line("network status", gateway.name, Level.OK, "says nothing of Key Vault.")
    return Line("network status", gateway.name, Level.OK, f"Key Vault is reached ({checked} report(s)).")


def host_id_is_own(site_name: str | None, host_id: str | None) -> Line:
    """The Functions host shortens a site name to 32 characters to make its id, which locks the timer."""
    if site_name and len(site_name) > 32 and not host_id:
        cause = f"the name {site_name} is cut to {site_name[:32]}, which another app may share."
        step = "Set AzureFunctionsWebHost__hostid to a name of your own, 32 characters at most."
        return Line("host id", site_name, Level.WARNING, cause, step)
    if not site_name:
        return Line("host id", "this machine", Level.OK, "not a function app, so there is nothing to check.")
    return Line("host id", site_name, Level.OK, f"{host_id or site_name}.")


def allows(roles: Iterable[Mapping[str, Any]], action: str, kind: str = "actions") -> bool:
    """Whether one role allows an action: its actions, less its notActions."""
    refused = f"not{kind[0].upper()}{kind[1:]}"
    return any(
        _matches(role.get(kind) or [], action) and not _matches(role.get(refused) or [], action)
        for role in roles
    )


def of_vault(verdict: Verdict, vault_host: str) -> bool:
    """Whether a verdict is about a certificate of a vault."""
    reference = verdict.evidence.binding.reference
    return reference is not None and reference.certificate.vault_host == vault_host


def _matches(patterns: Iterable[object], action: str) -> bool:
    return any(
        re.fullmatch(re.escape(str(pattern)).replace(r"\*", ".*"), action, re.IGNORECASE)
        for pattern in patterns
    )


def _walled(properties: Mapping[str, Any]) -> bool:
    rules = _mapping(properties.get("networkAcls"))
    return rules.get("defaultAction") == "Deny" or properties.get("publicNetworkAccess") == "Disabled"


def _policy_reads_secrets(properties: Mapping[str, Any], principal: str) -> bool:
    return any(
        str(policy.get("objectId", "")).lower() == principal.lower()
        and {"get", "all"}
        & {str(right).lower() for right in _mapping(policy.get("permissions")).get("secrets") or []}
        for policy in properties.get("accessPolicies") or []
    )


def _role_of(assignment: Mapping[str, Any]) -> str:
    definition = _mapping(assignment.get("properties")).get("roleDefinitionId", "")
    return str(definition).rpartition("/")[2].lower()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
