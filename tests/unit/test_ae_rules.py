"""Who may open an association, and the reasons of PS3.8 table 9-21 for those who may not."""

import pytest

from gateway.config import AECaller, Dimse, Security
from gateway.security.ae_rules import AERules, Rejected
from gateway.security.audit import Event, Outcome
from gateway.security.caller import Right
from tests.unit.fakes import KeptAudit

SECURITY = Security(
    callers=(
        AECaller(ae_title="CT1", addresses=("10.1.0.0/16", "2001:db8::/32")),
        AECaller(ae_title="CT1", addresses=("10.2.0.9",), rights=frozenset({Right.READ})),
        AECaller(ae_title="CT1", addresses=("10.1.5.5",), rights=frozenset({Right.DELETE})),
        AECaller(ae_title="MR 2", addresses=("0.0.0.0/0",)),
    )
)
RULES = AERules(Dimse(), SECURITY)


def triple(called: str, calling: str, address: str, rules: AERules = RULES) -> tuple[int, int, int]:
    with pytest.raises(Rejected) as caught:
        rules.admit(called, calling, address)
    return caught.value.result, caught.value.source, caught.value.reason


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"])
def test_a_known_title_at_its_address_is_admitted(address: str) -> None:
    caller = RULES.admit("GATEWAY", "CT1", address)
    assert (caller.identity, caller.address, caller.door) == ("CT1", address, "dimse")
    assert caller.rights == {Right.STORE}


def test_padding_does_not_count_but_spaces_within_do() -> None:
    assert RULES.admit("GATEWAY         ", "MR 2            ", "1.2.3.4").identity == "MR 2"
    assert triple("GATEWAY", "MR2", "1.2.3.4") == (1, 1, 3)


def test_every_entry_that_matches_gives_its_rights() -> None:
    assert RULES.admit("GATEWAY", "CT1", "10.2.0.9").rights == {Right.READ}
    assert RULES.admit("GATEWAY", "CT1", "10.1.5.5").rights == {Right.STORE, Right.DELETE}


@pytest.mark.parametrize("called", ["OTHER", "gateway", "", "GATEWAY2"])
def test_another_called_title_is_not_recognized(called: str) -> None:
    assert triple(called, "CT1", "10.1.2.3") == (1, 1, 7)


@pytest.mark.parametrize(
    ("calling", "address"),
    [("CT2", "10.1.2.3"), ("ct1", "10.1.2.3"), ("", "10.1.2.3"), ("CT1", "10.3.0.1"), ("CT1", "::1"), ("MR 2", "::1")],
)
def test_a_stranger_and_a_known_title_from_elsewhere_are_refused_alike(calling: str, address: str) -> None:
    assert triple("GATEWAY", calling, address) == (1, 1, 3)


def test_the_called_title_may_be_anything_when_the_configuration_says_so() -> None:
    rules = AERules(Dimse(require_called_ae_title=False), SECURITY)
    assert rules.admit("WHATEVER", "CT1", "10.1.2.3").identity == "CT1"


@pytest.mark.parametrize(
    ("address", "known"), [("10.1.2.3", True), ("::ffff:10.2.0.9", True), ("10.3.0.1", False), ("::1", False)]
)
def test_an_address_is_known_when_any_caller_may_come_from_it(address: str, known: bool) -> None:
    rules = AERules(Dimse(), SECURITY.model_copy(update={"callers": SECURITY.callers[:3]}))
    assert rules.knows(address) is known
    assert AERules(Dimse(), Security(open=True)).knows(address), "no callers are named"


@pytest.mark.parametrize("open_", [True, False])
def test_when_no_callers_are_named_everybody_may_do_everything(open_: bool) -> None:
    rules = AERules(Dimse(), Security(open=open_))
    assert rules.admit("GATEWAY", "ANY", "127.0.0.1").rights == frozenset(Right)
    assert triple("OTHER", "ANY", "127.0.0.1", rules) == (1, 1, 7)


def test_named_callers_are_needed_also_when_open() -> None:
    rules = AERules(Dimse(), SECURITY.model_copy(update={"open": True}))
    assert triple("GATEWAY", "STRANGER", "10.1.2.3", rules) == (1, 1, 3)


def test_rejections_are_recorded() -> None:
    audit = KeptAudit()
    rules = AERules(Dimse(), SECURITY, audit=audit)
    triple("GATEWAY", "STRANGER ", "10.1.2.3", rules)
    triple("OTHER", "CT1", "10.1.2.3", rules)
    assert audit.events == [
        Event("associate", Outcome.DENIED, "STRANGER", "10.1.2.3", "dimse", reason="rejected 1/1/3"),
        Event("associate", Outcome.DENIED, "CT1", "10.1.2.3", "dimse", reason="rejected 1/1/7"),
    ]
