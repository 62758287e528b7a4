"""How the app speaks to others: TLS verified but in the probe, no redirects, hosts fixed by cloud."""

import ast
import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rotation import settings
from rotation.clients.doctor import ArmReads
from rotation.clients.http import CALL_OPTIONS
from tests.unit.test_settings import settings as given

ROOT = Path(__file__).resolve().parents[2]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in [ROOT / "function_app.py", *(ROOT / "rotation").rglob("*.py")]
}
PROBE = "rotation/clients/tls.py"


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the app: the module, what is called, and the call."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func).rpartition(".")[2], node


def test_certificates_are_verified_everywhere_but_in_the_probe() -> None:
    """The one context that verifies nothing is the probe's; no call turns verification off."""
    unverified = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "CERT_OPTIONAL", "check_hostname"}
    }
    off = {
        f"{path}: {ast.unparse(keyword)}"
        for path, _, call in calls()
        for keyword in call.keywords
        if keyword.arg in {"verify", "ssl", "connection_verify", "verify_ssl", "verify_challenge_resource"}
        and isinstance(keyword.value, ast.Constant)
    }

    assert {PROBE} == unverified
    assert set() == off


def test_every_client_of_azure_follows_no_redirect_and_retries_once() -> None:
    """The SDK's default would follow thirty; ours are made with CALL_OPTIONS or policies of ours."""
    made = {
        f"{path}: {name}": call
        for path, name, call in calls()
        if name.endswith("Client") and path.startswith("rotation/")
    }
    without = [
        where
        for where, call in made.items()
        if "CALL_OPTIONS" not in {ast.unparse(k.value) for k in call.keywords if k.arg is None}
        and not any(keyword.arg == "policies" for keyword in call.keywords)
    ]

    assert len(made) >= 7
    assert [] == without
    assert (False, 1) == (CALL_OPTIONS["permit_redirects"], CALL_OPTIONS["retry_total"])
    bare = [
        call for _, name, call in calls() if name == "get" and "headers" in {k.arg for k in call.keywords}
    ]
    assert all("allow_redirects=False" in ast.unparse(call) for call in bare)


def test_every_client_that_follows_links_keeps_to_its_host() -> None:
    """What nextLink and Location say is outside data: OnlyHost refuses before a token is sent."""
    bound = {path for path, name, _ in calls() if name == "OnlyHost" and path.startswith("rotation/clients/")}
    clients = {path for path, name, _ in calls() if name.endswith("Client") and path.startswith("rotation/")}

    assert {"rotation/clients/notices.py"} == clients - bound  # which follows none


def test_nothing_is_asked_for_over_plain_http() -> None:
    """The names of claims and namespaces look like addresses; nothing else begins so."""
    plain = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("http://")
    }

    assert all(text.startswith("http://schemas.") for text in plain), plain


@pytest.mark.parametrize("cloud", settings.CLOUDS.values(), ids=settings.CLOUDS)
def test_a_cloud_has_one_host_for_each_kind_of_token(cloud: settings.Cloud) -> None:
    """No host is pieced together from outside data: scopes and authority are the cloud's too."""
    assert all(url.startswith("https://") for url in (cloud.arm_url, cloud.arm_scope, cloud.authority))
    assert all(
        suffix.count(".") >= 2 or suffix.startswith("vault.")
        for suffix in (cloud.vault_suffix, cloud.storage_suffix, cloud.topic_suffix)
    )


def test_the_doctor_sends_its_token_to_arm_alone() -> None:
    """An id that ARM answers with may look like the address of another host."""
    mine = replace(given(), arm_url="https://127.0.0.1:9")

    async def ask() -> str:
        async with ArmReads(mine) as arm:
            return (await arm.get("//evil.example/subscriptions/x", "2022-04-01")).detail

    assert "its address leads away from Azure Resource Manager" == asyncio.run(ask())
