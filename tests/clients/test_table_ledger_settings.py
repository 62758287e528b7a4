"""Which ledger a setting means, and what the app makes of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rotation.settings import Mistakes, Settings, load

ROOT = Path(__file__).resolve().parents[2]
GUID = "11111111-2222-3333-4444-555555555555"
URL = "https://strotation.table.core.windows.net"


def read(ledger: str, cloud: str = "AzureCloud") -> Settings | Mistakes:
    """The settings with this ledger."""
    return load({"ROTATION_SUBSCRIPTIONS": GUID, "ROTATION_LEDGER": ledger, "ROTATION_CLOUD": cloud})


@pytest.mark.parametrize(
    ("ledger", "cloud", "expected"),
    [
        pytest.param("/data/ledger.sqlite", "AzureCloud", "/data/ledger.sqlite", id="a path"),
        pytest.param("ledger.sqlite", "AzureCloud", "ledger.sqlite", id="a file here"),
        pytest.param("C:\\data\\x.sqlite", "AzureCloud", "C:\\data\\x.sqlite", id="a path of Windows"),
        pytest.param("/a b/table.x?y;z", "AzureCloud", "/a b/table.x?y;z", id="an odd path"),
        pytest.param(URL, "AzureCloud", f"{URL}/rotation", id="an account"),
        pytest.param(f"{URL}/", "AzureCloud", f"{URL}/rotation", id="an account with a slash"),
        pytest.param(f"{URL}/Gateways2", "AzureCloud", f"{URL}/Gateways2", id="a table"),
        pytest.param(f"{URL}/gateways/", "AzureCloud", f"{URL}/gateways", id="a table with a slash"),
        pytest.param(URL.upper(), "AzureCloud", f"{URL}/rotation", id="in upper case"),
        pytest.param(
            "https://strotation.table.core.usgovcloudapi.net",
            "AzureUSGovernment",
            "https://strotation.table.core.usgovcloudapi.net/rotation",
            id="of the US government's cloud",
        ),
        pytest.param(
            "https://strotation.table.core.chinacloudapi.cn/x1y",
            "AzureChinaCloud",
            "https://strotation.table.core.chinacloudapi.cn/x1y",
            id="of the Chinese cloud",
        ),
    ],
)
def test_a_ledger_may_be(ledger: str, cloud: str, expected: str) -> None:
    """A file or a table; what is in force is shown in full."""
    found = read(ledger, cloud)

    assert isinstance(found, Settings), found
    assert (expected, expected) == (found.ledger, found.to_json()["ledger"])


@pytest.mark.parametrize(
    ("ledger", "cloud"),
    [
        pytest.param(URL.replace("https", "http"), "AzureCloud", id="without TLS"),
        pytest.param(URL.removeprefix("https://"), "AzureCloud", id="without a scheme"),
        pytest.param(URL.replace("//", "/"), "AzureCloud", id="with one slash"),
        pytest.param(URL.replace("table", "blob"), "AzureCloud", id="a URL of blobs"),
        pytest.param("https://fabrikam.com/rotation", "AzureCloud", id="another host"),
        pytest.param(f"{URL}.fabrikam.com", "AzureCloud", id="a host that begins like it"),
        pytest.param("https://fabrikam.com/.table.core.windows.net", "AzureCloud", id="a path that ends so"),
        pytest.param(f"{URL}@fabrikam.com", "AzureCloud", id="the host as a user name"),
        pytest.param(f"{URL}:444", "AzureCloud", id="with a port"),
        pytest.param(URL, "AzureUSGovernment", id="of another cloud"),
        pytest.param("https://.table.core.windows.net", "AzureCloud", id="without an account"),
        pytest.param("https://st-rotation.table.core.windows.net", "AzureCloud", id="an account with a dash"),
        pytest.param("https://a.b.table.core.windows.net", "AzureCloud", id="a host below an account"),
        pytest.param(f"{URL}/1gateways", "AzureCloud", id="a table that begins with a digit"),
        pytest.param(f"{URL}/ab", "AzureCloud", id="a table of two letters"),
        pytest.param(f"{URL}/a_b", "AzureCloud", id="a table with an underscore"),
        pytest.param(f"{URL}/a/b", "AzureCloud", id="a path"),
        pytest.param(f"{URL}/rotation#x", "AzureCloud", id="a fragment"),
        pytest.param("file:///data/ledger.sqlite", "AzureCloud", id="a file's URL"),
        pytest.param("sqlite:///data/ledger.sqlite", "AzureCloud", id="a URL of other tools"),
        pytest.param(":memory:", "AzureCloud", id="a database that forgets at once"),
    ],
)
def test_a_ledger_may_not_be(ledger: str, cloud: str) -> None:
    """One mistake, which shows the value and says what to write."""
    found = read(ledger, cloud)

    assert isinstance(found, Mistakes), found
    (sentence,) = found.sentences
    assert sentence.startswith(
        f"ROTATION_LEDGER is {ledger!r}: write the path of a file, or https://ACCOUNT."
    )


@pytest.mark.parametrize(
    "ledger",
    [
        pytest.param(f"{URL}/rotation?sv=2020-12-06&sig=c2VjcmV0", id="a shared access signature"),
        pytest.param(
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0", id="a connection string"
        ),
        pytest.param(
            f"TableEndpoint={URL}/;SharedAccessSignature=sv=1&sig=c2VjcmV0", id="one with a signature"
        ),
    ],
)
def test_a_key_is_refused_and_not_shown(ledger: str) -> None:
    """The identity of the app is enough; /api/status and the log would show the key."""
    found = read(ledger)

    assert isinstance(found, Mistakes), found
    (sentence,) = found.sentences
    assert sentence.startswith("ROTATION_LEDGER: write the path of a file")
    assert "c2VjcmV0" not in sentence


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        pytest.param("/tmp/x.sqlite", ["SqliteLedger", False], id="a file"),
        pytest.param(URL, ["TableLedger", True], id="a table"),
    ],
)
def test_the_app_has_the_ledger_of_its_setting(ledger: str, expected: list[object]) -> None:
    """In a fresh interpreter, which loads the SDK of Table storage only where it is used."""
    code = (
        "import asyncio, json, os, sys\n"
        "from rotation.app import build\n"
        "from rotation.settings import load\n"
        "async def main():\n"
        "    app = build(load({'ROTATION_SUBSCRIPTIONS': sys.argv[1], 'ROTATION_LEDGER': sys.argv[2]}))\n"
        "    print(json.dumps([type(app.world.ledger).__name__, 'azure.data.tables' in sys.modules]))\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, GUID, ledger],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert expected == json.loads(found.stdout)
