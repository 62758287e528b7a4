"""Bad settings: whoever deploys is no attacker, but a typing mistake must not act, leak or keep the app down.

Most rows are held where settings are read; here the running host is started with them all at once.
"""

from sandbox.stage import Stage
from sandbox.witness import canary
from sandbox.world import World
from tests.bad_input.table import Case, Held
from tests.bad_input.world import raised

SETTINGS = "tests/unit/test_settings.py"
BAD = f"{SETTINGS}::test_a_setting_may_not_be"

# fmt: off
CASES = (
    Case("own", "a mode with script", "shown on the page", "ROTATION_MODE", "<script>alert(1)</script>"),
    Case("own", "a deadline with a line break", "another line of the log", "ROTATION_DRIFT_AFTER_MINUTES", "5\r\n2026 ERROR forged"),
    Case("own", "a vault with a terminal's escapes", "whoever reads the log", "ROTATION_VAULTS", "\x1b]0;owned\x07"),
    Case("own", "a ledger with its account's key", "a secret in the log", "ROTATION_LEDGER", "DefaultEndpointsProtocol=https;AccountKey={}"),
    Case("own", "a topic with a key", "a secret in the log", "ROTATION_NOTICES", "https://t.westeurope-1.eventgrid.azure.net/api/events?sig={}"),
    Case("own", "a connection string that is none", "a secret in the log", "APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey={}"),
    Case("own", "a route to a port beyond all ports", "arithmetic", "ROTATION_CONNECT_TO", "a.example:443:10.0.0.4:99999"),
    Case("own", "a route of ten thousand characters", "a log line of any length", "ROTATION_SELF_HOSTED", "x" * 10_000),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("B53", "nothing set", "no scope", "misconfigured, told by every function, no crash", "tests/scenarios/test_doors.py::test_wrong_settings_are_all_reported_by_every_function_and_nothing_is_called"),
    Held("B54", "a subscription that is no GUID", "another scope than meant", "refused", f"{BAD}[one subscription of two by name]"),
    Held("B55", "an empty scope", "everything to a careless reader", "nothing is in scope", f"{SETTINGS}::test_an_empty_scope_is_not_everything"),
    Held("B56", "`*`", "everything", "refused", f"{BAD}[all subscriptions]"),
    Held("B57", "an interval of 0", "a busy loop", "refused", f"{BAD}[a deadline of zero]"),
    Held("B57", "an interval of -1", "the past", "refused", f"{BAD}[a deadline below zero]"),
    Held("B57", "an interval of 1e9", "never", "refused", f"{BAD}[a deadline with an exponent]"),
    Held("B57", "an interval of 5m", "which unit", "refused", f"{BAD}[a deadline with a unit]"),
    Held("B58", "AzureGermanCloud", "closed", "refused", f"{BAD}[a closed cloud]"),
    Held("B58", "a cloud with a typing mistake", "which one", "refused", f"{BAD}[a cloud with a typing mistake]"),
    Held("B59", "TRUE for the mode", "acts unless it is a word of ours", "refused, and nothing acts", f"{BAD}[a mode that is no word of ours]"),
    Held("B60", "a cap of 0", "no sync at all", "refused", f"{BAD}[no sync at all]"),
    Held("B60", "a cap of 10,000", "a storm", "refused", f"{BAD}[a storm]"),
    Held("B61", "a schedule of five fields", "the host would fail", "refused", f"{BAD}[a schedule of five fields]"),
    Held("B62", "a connection string of another cloud", "telemetry leaves the cloud", "told", f"{SETTINGS}::test_telemetry_goes_to_the_cloud_of_the_app"),
    Held("B64", "a host id of 40 characters", "cut to 32, perhaps another app's", "a warning", "tests/cli/test_doctor.py::test_everything_that_is_ill_is_found_in_one_run"),
    Held("own", "a wrong connection string", "a secret in the log", "reported without showing it", f"{SETTINGS}::test_a_wrong_connection_string_is_reported_without_showing_it"),
    Held("own", "a setting's name with a typing mistake", "silently the default", "did you mean", f"{SETTINGS}::test_an_unknown_setting_is_a_typing_mistake"),
    Held("own", "any environment", "a shape nobody thought of", "never raises", f"{SETTINGS}::test_no_environment_ever_raises"),
)
# fmt: on


def test_a_host_with_bad_settings_starts_names_each_and_shows_no_secret() -> None:
    """The table, all rows at once; what is a secret is looked for at every way out as in every test."""
    wrong = {case.right: case.given.format(canary()) for case in CASES}
    with Stage(World(), wrong, schema=None) as stage:
        stage.host.run("check_drift")
        told = stage.host.request("GET", "/api/status", key="function")
        page = stage.host.request("GET", "/api/page", key="function")
        log = stage.host.log()

        assert (503, 503) == (told.status, page.status)
        for name in wrong:
            assert name in told.json()["detail"], name
            assert name in log
        assert [] == raised(log)
        assert b"<script>" not in page.body
        assert not {"\x1b", "\x07"} & set(log)
        assert "\n2026 ERROR forged" not in log
        assert max(map(len, log.splitlines())) < 4000
        assert [] == stage.world.requests
