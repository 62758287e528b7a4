"""Each command as it is typed: what it prints, what it leaves behind, and its exit code."""

from datetime import timedelta
from pathlib import Path
from signal import SIGINT

import pytest

from sandbox.world import Certificate, Fault, Hostname, Server, Service, World
from tests.cli.terminal import at, shell

HOST = "api.contoso.com"
URL = "https://kv-contoso.vault.azure.net/certificates/contoso-com"


def contoso(sku: str = "Premium") -> tuple[World, Certificate, Service]:
    """A world with one certificate and one service of one region with one unit."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    hostnames = (Hostname(HOST, certificate=certificate),)
    made = world.add_service("apim-contoso", hostnames=hostnames, regions={"West Europe": 1}, sku=sku)
    return world, certificate, made


def test_check_says_what_is_served_and_its_exit_code_follows(tmp_path: Path) -> None:
    """In sync 0, on its way 1, drifting 3, not to be seen 4."""
    world, certificate, _ = contoso()
    with shell(world, tmp_path) as terminal:
        well = terminal.run("check", "--hostname", HOST)
        certificate.renew()
        stale = terminal.run("check", "--json")
        world.clock.advance(timedelta(hours=3))
        drifting = terminal.run("check", "--json")
        world.faults.append(Fault(Server.VAULT, status=403, times=None))
        unseen = terminal.run("check")

        assert 0 == well.code, well.err
        assert ["IN_SYNC", "Served", "apim-contoso", HOST] == well.rows[0][:4]
        assert "" == well.err
        assert 1 == stale.code
        assert ["STALE"] == [v["status"] for v in stale.result["verdicts"] if v["hostname"] == HOST]
        assert 3 == drifting.code
        assert [True] == [v["drift"] for v in drifting.result["verdicts"] if v["hostname"] == HOST]
        assert (4, "VaultUnreadable") == (unseen.code, unseen.rows[0][1])


def test_check_lists_the_authorities_of_self_hosted_gateways(tmp_path: Path) -> None:
    """After the hostnames, named in the first field."""
    world, _, service = contoso("Premium")
    root = service.add_entity("corp-root", uploaded=world.ca.issue(["corp.contoso.com"], days=400))
    service.add_self_hosted("edge-berlin", {}, (), [root])
    with shell(world, tmp_path, {"ROTATION_KINDS": "SelfHostedGateway"}) as terminal:
        seen = terminal.run("check")
        ends = f"{root.held_at(world.clock.now()).not_after:%Y-%m-%d}"

    assert ["authorities", "apim-contoso", "edge-berlin", "corp-root", "yes"] == seen.rows[-1][:5]
    assert ends == seen.rows[-1][-1]


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    """No sync, nothing in Application Insights, whatever ROTATION_MODE says."""
    world, certificate, service = contoso()
    with shell(world, tmp_path, {"ROTATION_MODE": "enforce"}) as terminal:
        certificate.renew()
        codes = [terminal.run(*command).code for command in (("check",), ("plan",), ("resync", "--all"))]

        assert [1, 1, 1] == codes
        assert ([], []) == (service.syncs, world.custom_events())


def test_plan_says_what_would_be_synced_and_why_not_the_rest(tmp_path: Path) -> None:
    """By the rules and brakes of the app: the Developer tier waits for its window, force does not."""
    world, certificate, _ = contoso()
    world.add_service(
        "apim-dev", sku="Developer", hostnames=(Hostname("dev.contoso.com", certificate=certificate),)
    )
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        planned = terminal.run("plan", "--json")
        forced = terminal.run("plan", "--force")

        choices = {each["gateway"]: each["choice"] for each in planned.result["decisions"]}
        assert {"apim-contoso": "Sync", "apim-dev": "NeedsWindow"} == choices
        assert {("Sync", "apim-contoso"), ("Sync", "apim-dev")} == {(r[0], r[1]) for r in forced.rows}


def test_resync_is_a_dry_run_until_yes(tmp_path: Path) -> None:
    """And says where the limits are kept."""
    world, certificate, service = contoso()
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        dry = terminal.run("resync", "--hostname", HOST, "--json")
        before = list(service.syncs)
        done = terminal.run("resync", "--hostname", HOST, "--yes", "--json")
        again = terminal.run("resync", "--hostname", HOST, "--yes")

        assert ([], True, "Sync") == (before, dry.result["dry_run"], dry.result["decisions"][0]["choice"])
        assert any("--yes does it" in note for note in dry.answers[0]["notes"])
        assert any("limits hold for this machine only" in note for note in dry.answers[0]["notes"])
        assert (0, 1) == (done.code, len(service.syncs))
        assert "accepted" == done.result["decisions"][0]["outcome"]
        assert (1, "NothingStale") == (again.code, again.rows[0][0])
        assert world.custom_events("SyncRequested")


def test_a_sync_that_is_needed_and_held_needs_a_person(tmp_path: Path) -> None:
    """Exit code 3, and the sentence of the brake."""
    world, certificate, service = contoso(sku="Developer")
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        held = terminal.run("resync", "--all", "--yes")

        assert (3, "NeedsWindow") == (held.code, held.rows[0][0])
        assert "ROTATION_DEVELOPER_TIER" in held.out
        assert [] == service.syncs


def test_emergency_names_the_version_explains_the_brakes_and_syncs_what_uses_it(tmp_path: Path) -> None:
    """Rings and windows do not hold it back; what serves the newest version needs nothing."""
    world, certificate, first = contoso()
    hostnames = (Hostname("dev.contoso.com", certificate=certificate),)
    later = world.add_service("apim-dev", sku="Developer", tags={"rotation-ring": "1"}, hostnames=hostnames)
    other = world.vaults["kv-contoso"].add_certificate("fabrikam", ["www.fabrikam.com"])
    world.add_service("apim-other", hostnames=(Hostname("www.fabrikam.com", certificate=other),))
    with shell(world, tmp_path) as terminal:
        idle = terminal.run("emergency", "--using-certificate", URL, "--yes")
        version = certificate.renew()
        dry = terminal.run("emergency", "--using-certificate", URL, "--json")
        before = (list(first.syncs), list(later.syncs))
        done = terminal.run("emergency", "--using-certificate", URL, "--yes", "--max-syncs", "50", "--json")

        assert (0, True) == (idle.code, "nothing is to be done" in idle.out)
        assert ([], []) == before
        notes = " ".join(dry.answers[0]["notes"])
        assert version.thumbprint in notes
        assert "renew it in Key Vault first" in notes
        assert "five minutes per subscription" in notes
        assert 0 == done.code
        assert {"apim-contoso", "apim-dev"} == {d["gateway"] for d in done.result["decisions"]}
        assert (1, 1) == (len(first.syncs), len(later.syncs))


def test_watch_follows_a_rotation_until_it_is_proven(tmp_path: Path) -> None:
    """One line for each change; the last with the time to served."""
    world, certificate, service = contoso()
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        service.begin_sync()
        watched = terminal.run_and(
            lambda _: world.clock.advance(timedelta(minutes=25)), "watch", "--every", "1", "--json"
        )

        answers = watched.answers
        shown = [[each["status"] for each in answer["result"]["hostnames"]] for answer in answers]
        assert 0 == watched.code
        assert ([["SYNCING"], ["IN_SYNC"]], [1, 0]) == (shown, [answer["exit_code"] for answer in answers])
        assert None is answers[0]["result"]["hostnames"][0]["seconds_to_served"]
        assert 25 * 60 <= watched.result["hostnames"][0]["seconds_to_served"] < 30 * 60


def test_watch_gives_up_and_says_how_far_it_came(tmp_path: Path) -> None:
    """Exit code 1: on its way, not proven."""
    world, certificate, service = contoso()
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        service.begin_sync()
        watched = terminal.run("watch", "--for", "0")

        assert (1, ["SYNCING", "apim-contoso", HOST]) == (watched.code, watched.rows[0][:3])


def test_an_interrupted_watch_says_so(tmp_path: Path) -> None:
    """Exit code 130, without a traceback."""
    world, certificate, _ = contoso()
    with shell(world, tmp_path) as terminal:
        certificate.renew()
        ran = terminal.run_and(lambda process: process.send_signal(SIGINT), "watch", "--every", "3600")

        assert (130, "STALE") == (ran.code, ran.rows[0][0])
        assert "Interrupted." in ran.err
        assert "Traceback" not in ran.err


def test_report_finds_ends_pins_the_unrenewed_look_alikes_and_orphans(tmp_path: Path) -> None:
    """Everything that no event will ever tell of."""
    world, _, _ = contoso()
    vault = world.vaults["kv-contoso"]
    ending = vault.add_certificate("ending", ["old.contoso.com"], days=8)
    vault.add_certificate("nobody", ["nobody.example.com"], days=300)
    pinned = Hostname("pin.contoso.com", certificate=ending, pinned_version=ending.newest)
    world.add_service("apim-old", hostnames=(Hostname("old.contoso.com", certificate=ending), pinned))
    with shell(world, tmp_path) as terminal:
        found = terminal.run("report", "--json").result
        piped = terminal.run("report", "--no-vaults", "--days", "30")

        assert "old.contoso.com" == found["endings"][0]["hostname"]
        pin = found["pinned"][0]
        versionless = "https://kv-contoso.vault.azure.net/secrets/ending"
        assert [True] * 3 == [versionless in pin[language] for language in ("bicep", "terraform", "az")]
        assert "hostnameConfigurations[2].keyVaultId=" in pin["az"]
        assert [("https://kv-contoso.vault.azure.net/certificates/ending", 7)] == [
            (each["certificate"], each["days"]) for each in found["unrenewed"]
        ]
        assert {"old.contoso.com", "pin.contoso.com"} == {each["hostname"] for each in found["look_alikes"]}
        assert ["https://kv-contoso.vault.azure.net/certificates/nobody"] == found["orphans"]
        assert {"end", "pinned", "unrenewed", "look-alike"} == {row[0] for row in piped.rows}


def test_report_does_not_take_a_refused_list_for_an_empty_vault(tmp_path: Path) -> None:
    """Orphans are then unknown, and a note says which right is missing."""
    world, _, _ = contoso()
    world.faults.append(Fault(Server.VAULT, path=r"^/certificates$", status=403, times=None))
    with shell(world, tmp_path) as terminal:
        found = terminal.run("report", "--json")

        assert None is found.result["orphans"]
        assert any("It needs certificates list" in note for note in found.answers[0]["notes"])


def test_probe_shows_leaf_chain_and_the_record_of_the_proof(tmp_path: Path) -> None:
    """Of any hostname, without a setting or a sign-in; what is not trusted is 3, what is not there 4."""
    world, certificate, service = contoso()
    with shell(world, tmp_path) as terminal:
        place = at(terminal.azure, service)
        routes = f"{HOST}:443:{place},other.example.com:443:{place},gone.example.com:443:127.0.0.1:1"
        own = {"ROTATION_SUBSCRIPTIONS": "", "ROTATION_CONNECT_TO": routes}
        well = terminal.run("probe", HOST, "--json", **own)
        elsewhere = terminal.run("probe", "other.example.com", "--json", **own)
        gone = terminal.run("probe", "gone.example.com", "--json", **own)

        leaf, chain = well.result["served"][0], well.result["chain"]
        assert (0, certificate.newest.thumbprint, None) == (well.code, leaf["thumbprint"], leaf["distrust"])
        assert f"-servername {HOST}" in leaf["openssl"]
        assert (2, leaf["thumbprint"]) == (len(chain), chain[0]["thumbprint"])
        assert (3, True) == (elsewhere.code, bool(elsewhere.result["served"][0]["distrust"]))
        assert (4, "connection refused") == (gone.code, gone.result["failures"][0]["fault"])


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        (("check",), {"ROTATION_MODE": "on"}, 5, "write observe"),
        (("check",), {"ROTATION_SUBSCRIPTIONS": ""}, 5, "nothing is in scope"),
        (("resync",), {}, 2, "exactly one of gateway, hostname, certificate, vault, all"),
        (("resync", "--all", "--override", "Nonsense"), {}, 2, "there are"),
        (("check", "--gateway", "apim"), {}, 2, "is an ARM id"),
        (("probe", "a:b"), {}, 2, "is not HOST or HOST:PORT"),
        (("check", "--hostname", "nobody.example.com"), {}, 4, "No gateway in scope matches"),
    ],
)
def test_mistakes_are_said_in_a_sentence_and_have_codes(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    """On stderr, with nothing on stdout."""
    world, _, _ = contoso()
    with shell(world, tmp_path) as terminal:
        ran = terminal.run(*arguments, **settings)

        assert (code, "") == (ran.code, ran.out)
        assert said in ran.err


def test_a_terminal_gets_a_table_with_colours_unless_no_color_is_set(tmp_path: Path) -> None:
    """The same command three times: a pipe has neither table nor colour."""
    world, _, _ = contoso()
    with shell(world, tmp_path) as terminal:
        coloured = terminal.look("check", "--hostname", HOST)
        plain = terminal.look("check", "--hostname", HOST, NO_COLOR="1")

        assert (0, 0) == (coloured.code, plain.code)
        assert "hostname" in coloured.out.splitlines()[0]
        assert "\x1b[32mIN_SYNC" in coloured.out
        assert "\x1b[3" not in plain.out
        assert "IN_SYNC" in plain.out


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(tmp_path: Path, name: str) -> None:
    """The script for each is written by typer."""
    world, _, _ = contoso()
    with shell(world, tmp_path) as terminal:
        script = terminal.run("--show-completion", name, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")

        assert 0 == script.code, script.err
        assert "complet" in script.out
