"""Bugs to plant in a copy of the project, each with what must tell of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planted:
    """What is wrong, where, and what must tell: a figure of the soak, or the id of a test."""

    what: str
    path: str
    right: str
    wrong: str
    told_by: str

    def in_text(self, text: str) -> str:
        """The text of the file with the bug in it; ValueError where the right line is not there once."""
        if text.count(self.right) != 1:
            msg = f"{self.path} no longer has the line in which it is planted that {self.what}"
            raise ValueError(msg)
        return text.replace(self.right, self.wrong)


IN_SYNC_IF = "if not endpoints or any(met[e] < e.connections for e in endpoints) or case.not_new:"

BY_THE_SOAK = (
    Planted(
        what="a managed gateway is taken for one that fetches by itself",
        path="rotation/gateways/api_management.py",
        right='down_in_tiers=frozenset({"Developer"}),',
        wrong='down_in_tiers=frozenset({"Developer"}), fetches_within=timedelta(minutes=1),',
        told_by="other_unfounded",
    ),
    Planted(
        what="the attempt is recorded after the POST",
        path="rotation/reconcile.py",
        right="stored = await world.ledger.write(intent)",
        wrong="stored = intent",
        told_by="other_violations",
    ),
    Planted(
        what="a lost race for the claim is ignored, as if there were no etag",
        path="rotation/reconcile.py",
        right="return replace(decision, choice=Choice.CLAIMED_ELSEWHERE, message=why), None",
        wrong="stored = intent",
        told_by="other_violations",
    ),
    Planted(
        what="attempts are never counted",
        path="rotation/plan.py",
        right="attempts=fresh.attempts + 1,",
        wrong="attempts=fresh.attempts,",
        told_by="over_budget",
    ),
    Planted(
        what="a refusal is not waited for",
        path="rotation/plan.py",
        right="return min(max(retry_after or REFUSED_GAP, timedelta()), LONGEST_RETRY_AFTER)",
        wrong="return timedelta()",
        told_by="before_retry_after",
    ),
    Planted(
        what="the Retry-After of an unclear answer is forgotten",
        path="rotation/plan.py",
        right="hold = now + _wait(answer.retry_after) if answer.retry_after else None",
        wrong="hold = None",
        told_by="before_retry_after",
    ),
    Planted(
        what="a failed probe is treated as old",
        path="rotation/verdict.py",
        right='has another thumbprint configured."""\n    if not case.old and not case.configured_differs:',
        wrong='"""\n    if not case.old and not case.configured_differs and not case.failed:',
        told_by="false_stale",
    ),
    Planted(
        what="an unreadable certificate is taken for in sync",
        path="rotation/verdict.py",
        right='Status.UNKNOWN,\n        Reason.VAULT_UNREADABLE,\n        f"{expected.certificate}',
        wrong='Status.IN_SYNC,\n        Reason.VAULT_UNREADABLE,\n        f"{expected.certificate}',
        told_by="false_in_sync",
    ),
    Planted(
        what="in sync where any connection shows the new leaf",
        path="rotation/verdict.py",
        right=IN_SYNC_IF,
        wrong="if not endpoints or not any(met[e] for e in endpoints):",
        told_by="false_in_sync",
    ),
    Planted(
        what="in sync where ARM has the new thumbprint configured",
        path="rotation/verdict.py",
        right=IN_SYNC_IF,
        wrong="if not endpoints or case.configured_differs:",
        told_by="false_in_sync",
    ),
    Planted(
        what="drift is never told",
        path="rotation/verdict.py",
        right="finding.status is Status.STALE and now -",
        wrong="finding.status is Status.UNMANAGED and now -",
        told_by="false_stale",
    ),
    Planted(
        what="a front that distrusts what is served is called fine",
        path="rotation/verdict.py",
        right="if (front := case.evidence.front) and _distrusts(front, case):",
        wrong="if (front := case.evidence.front) and not front.name and _distrusts(front, case):",
        told_by="false_in_sync",
    ),
    Planted(
        what="a listener that is out of service is called in sync",
        path="rotation/verdict.py",
        right="""        Status.BLOCKED,
        Reason.GATEWAY_CANNOT_READ_VAULT,
        f"{_seen(case)}, and""",
        wrong="""        Status.IN_SYNC,
        Reason.GATEWAY_CANNOT_READ_VAULT,
        f"{_seen(case)}, and""",
        told_by="false_in_sync",
    ),
    Planted(
        what="a gateway that does not look is tagged at every tick",
        path="rotation/plan.py",
        right="next_at=run.now + attempt_gap(fresh.attempts + 1),",
        wrong="next_at=run.now if case.gateway.kind.looks_within else run.now + DAILY,",
        told_by="over_budget",
    ),
    Planted(
        what="a gateway that has had no time to look is called one that does not",
        path="rotation/verdict.py",
        right="if case.now - case.expected.available_since <= within:",
        wrong="if case.now - case.expected.available_since <= within / 8:",
        told_by="other_unfounded",
    ),
)

BY_A_TEST = (
    Planted(
        what="a sync goes past a front that would refuse the new version",
        path="rotation/verdict.py",
        right="if case.old and _refuses(front, case)]",
        wrong="if case.old and not front.name]",
        told_by="tests/unit/test_verdict_in_front.py::test_a_sync_depends_on_what_is_trusted_in_front",
    ),
    Planted(
        what="a gateway is rewritten in place of tagged",
        path="rotation/clients/network.py",
        right='            "PATCH",\n',
        wrong='            "PUT",\n',
        told_by="tests/clients/test_application_gateway.py::test_a_sync_is_one_tag_and_nothing_else",
    ),
    Planted(
        what="what stands in front is not asked again where it gave no answer",
        path="rotation/history.py",
        right="owed = not _is_content(row, evidence.gateway)",
        wrong="owed = row.front_content_at is not None and not _is_content(row, evidence.gateway)",
        told_by="tests/unit/test_history.py::"
        "test_what_stands_in_front_is_asked_after_a_rotation_and_until_it_is_content",
    ),
    Planted(
        what="a gateway that has had no time to poll is called one that does not",
        path="rotation/verdict.py",
        right="if case.now - since <= within and not named:",
        wrong="if case.new and not named:",
        told_by="tests/unit/test_kinds.py::"
        "test_a_gateway_that_fetches_by_itself_is_waited_for_and_then_named",
    ),
    Planted(
        what="an entity has the words of its service's tier",
        path="rotation/plan.py",
        right="if case.gateway.tier not in case.gateway.kind.down_in_tiers or open_now:",
        wrong='if case.gateway.tier != "Developer" or open_now:',
        told_by="tests/unit/test_kinds.py::test_only_a_kind_that_goes_down_waits_for_a_window",
    ),
    Planted(
        what="an event is trusted: what it announces is synced without a look",
        path="rotation/app.py",
        right="self.run(scope, Mode.REPAIR, Trigger.EVENT,",
        wrong="self.run(scope, Mode.FORCE, Trigger.EVENT,",
        told_by="tests/scenarios/test_doors.py::"
        "test_a_made_up_event_about_a_real_certificate_changes_nothing",
    ),
    Planted(
        what="an event is trusted: its version counts as a new one, and the attempts begin afresh",
        path="rotation/plan.py",
        right="begins_afresh = case.renewed or case.forced",
        wrong='begins_afresh = case.renewed or case.forced or case.run.trigger == "event"',
        told_by="tests/unit/test_plan.py::test_an_event_is_no_reason_to_ask_again",
    ),
    Planted(
        what="an event whose names disagree is believed",
        path="rotation/events.py",
        right='if fields.get("vaultname", vault).lower() != vault:',
        wrong='if fields.get("vaultname", vault) == "":',
        told_by="tests/unit/test_events.py::test_an_event_is_ignored_with_a_reason_for",
    ),
    Planted(
        what="chains are compared instead of the leaf",
        path="rotation/verdict.py",
        right="elif seen.thumbprint == expected:",
        wrong="elif seen.issuer == evidence.expected.issuer:",
        told_by="tests/unit/test_verdict.py::test_the_rules_are_in_this_order",
    ),
    Planted(
        what="the end of the chain is taken for the leaf",
        path="rotation/clients/tls.py",
        right="for each in _chain(connection.tls))",
        wrong="for each in _chain(connection.tls)[::-1])",
        told_by="tests/clients/test_tls_faults.py::test_a_trusted_leaf_is_read",
    ),
    Planted(
        what="a chain that no client trusts is told as a trusted one",
        path="rotation/clients/tls.py",
        right="        distrust=connection.job.distrust,",
        wrong="        distrust=None,",
        told_by="tests/clients/test_tls_faults.py::test_a_distrusted_leaf_is_read_all_the_same",
    ),
    Planted(
        what="the SDK's retries are left on for the POST of a sync",
        path="rotation/clients/arm.py",
        right="await send(retry_total=0, raw_response_hook=keep)",
        wrong="await send(raw_response_hook=keep)",
        told_by="tests/clients/test_arm_sync.py::test_every_answer_has_a_meaning_and_is_asked_for_once",
    ),
    Planted(
        what="a link to another host is followed, with the token",
        path="rotation/clients/arm.py",
        right="per_call_policies=[OnlyHost(self._url)],",
        wrong="per_call_policies=[],",
        told_by="tests/clients/test_arm_list.py::test_a_link_to_elsewhere_is_not_followed",
    ),
    Planted(
        what="a connection that failed counts as one that showed the wanted leaf",
        path="rotation/verdict.py",
        right="            failed.append(seen)",
        wrong="            new.append(seen)",
        told_by="tests/unit/test_verdict.py::test_the_rules_are_in_this_order",
    ),
    Planted(
        what="a hostname without an endpoint is taken for in sync",
        path="rotation/verdict.py",
        right="    if not endpoints or any(",
        wrong="    if any(",
        told_by="tests/unit/test_verdict.py::test_the_rules_are_in_this_order",
    ),
    Planted(
        what="versions that cannot be listed are taken for none",
        path="rotation/clients/key_vault.py",
        right="        except (AzureError, TimeoutError, *MALFORMED):\n            return None",
        wrong="        except (AzureError, TimeoutError, *MALFORMED):\n            return frozenset()",
        told_by="tests/clients/test_key_vault.py::test_a_listing_that_breaks_off_leaves_the_versions_unknown",
    ),
    Planted(
        what="a vault that refuses is taken for a certificate that is disabled",
        path="rotation/clients/key_vault.py",
        right='error.status_code == 403 and "disabled" in _inner_code(error).lower()',
        wrong="error.status_code == 403",
        told_by="tests/scenarios/test_verdicts.py::test_a_vault_that_cannot_be_read_is_unknown_and_never_acted_upon",
    ),
    Planted(
        what="an event in the outbox is struck out before it was accepted",
        path="rotation/reconcile.py",
        right="if not await tell([event for row in full for event in row.outbox]):",
        wrong="if await tell([event for row in full for event in row.outbox]) is None:",
        told_by="tests/scenarios/test_doors.py::"
        "test_what_application_insights_does_not_accept_goes_to_the_host_log",
    ),
    Planted(
        what="an event that is told again has another id",
        path="rotation/app.py",
        right="chain(waiting, telemetry.results(report))",
        wrong="chain(waiting, waiting, telemetry.results(report))",
        told_by="tests/scenarios/test_rotation.py::"
        "test_the_proof_and_its_time_reach_application_insights_once_and_join_the_invocation",
    ),
    Planted(
        what="what Application Insights refused counts as accepted",
        path="rotation/clients/app_insights.py",
        right="if exporter.export(part) is not LogRecordExportResult.SUCCESS:",
        wrong="if exporter.export(part) is None:",
        told_by="tests/clients/test_app_insights.py::test_what_is_not_accepted_is_false",
    ),
    Planted(
        what="a settled binding is only sampled although there is a new version",
        path="rotation/history.py",
        right="and last.version == expected.version and _done(last.status, binding)",
        wrong="and _done(last.status, binding)",
        told_by="tests/unit/test_history.py::test_a_binding_is_proven_in_full_where",
    ),
    Planted(
        what="a failed discovery is taken for an empty fleet",
        path="rotation/reconcile.py",
        right="if not run.scope.everything or inventory.problems:",
        wrong="if not run.scope.everything:",
        told_by="tests/scenarios/test_vanished.py::test_a_list_that_is_not_whole_lets_no_gateway_vanish",
    ),
    Planted(
        what="the row is written whatever its etag is",
        path="rotation/clients/sqlite_ledger.py",
        right="body = ? WHERE gateway = ? AND etag = ?",
        wrong="body = ? WHERE gateway = ? AND etag >= ?",
        told_by="tests/clients/test_ledger.py::test_a_stale_etag_may_not_write",
    ),
    Planted(
        what="ROTATION_MODE is not heeded",
        path="rotation/app.py",
        right="return wanted if self.settings.enforce else Mode.OBSERVE",
        wrong="return wanted",
        told_by="tests/scenarios/test_doors.py::test_observe_mode_never_syncs_whatever_is_asked",
    ),
    Planted(
        what="the kill switch is not heeded",
        path="rotation/plan.py",
        right="    stopped,\n    paused,\n",
        wrong="    paused,\n",
        told_by="tests/unit/test_plan.py::test_the_kill_switch_holds_every_sync",
    ),
    Planted(
        what="a sync in flight is not remembered against force",
        path="rotation/plan.py",
        right="forced_at=run.now if case.forced else fresh.forced_at,",
        wrong="forced_at=fresh.forced_at,",
        told_by="tests/unit/test_plan.py::test_force_is_counted_and_noted",
    ),
    Planted(
        what="a wildcard covers any number of labels",
        path="rotation/verdict.py",
        right='parent = wanted.partition(".")[2]',
        wrong='parent = ".".join(wanted.split(".")[-2:])',
        told_by="tests/unit/test_verdict.py::test_a_certificate_does_not_cover_a_hostname",
    ),
    Planted(
        what="what is told of a binding leads to another gateway",
        path="rotation/reconcile.py",
        right="in_order = iter(observations)",
        wrong="in_order = iter(observations[::-1])",
        told_by="tests/scenarios/test_verdicts.py::test_every_type_of_hostname_is_looked_at_in_its_own_place",
    ),
    Planted(
        what="the breaker never opens",
        path="rotation/brakes.py",
        right="return until if now < until else None",
        wrong="return None",
        told_by="tests/unit/test_brakes.py::test_the_breaker_opens_after_different_gateways_gave_no_answer",
    ),
)
