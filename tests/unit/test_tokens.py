"""Bearer tokens: who is let in, who is not, and what is kept and recorded of them."""

import pytest

from gateway.config import Token
from gateway.security.audit import Event, Outcome
from gateway.security.caller import Right
from gateway.security.policy import Unauthenticated
from gateway.security.tokens import ANONYMOUS, Tokens, new_token
from tests.unit.fakes import KeptAudit

READER, READER_HASH = new_token()
SENDER, SENDER_HASH = new_token()
CONFIGURED = (
    Token(name="radiology", sha256=READER_HASH, rights=frozenset({Right.READ})),
    Token(name="modality", sha256=SENDER_HASH, rights=frozenset({Right.STORE, Right.READ})),
)


def test_a_token_names_its_caller_with_its_rights() -> None:
    tokens = Tokens(CONFIGURED)
    reader = tokens.authenticate(f"Bearer {READER}", "10.0.0.7")
    assert (reader.identity, reader.address, reader.door) == ("radiology", "10.0.0.7", "web")
    assert reader.rights == {Right.READ}
    assert tokens.authenticate(f"Bearer {SENDER}", "10.0.0.7").rights == {Right.STORE, Right.READ}


@pytest.mark.parametrize(
    "header", [f"bearer {READER}", f"BEARER   {READER}", f"Bearer {READER} "], ids=["lower", "upper", "spaces"]
)
def test_the_scheme_has_no_case_and_spaces_do_not_count(header: str) -> None:
    assert Tokens(CONFIGURED).authenticate(header, "::1").identity == "radiology"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        READER,
        f"Basic {READER}",
        f"Bearer {READER}x",
        f"Bearer {READER[:-1]}",
        f"Bearer {READER} {SENDER}",
        f"Bearer {READER_HASH}",
        "Bearer " + "x" * 100_000,
        "Bearer \u00e4\ud800",
        "Bearer \0",
    ],
    ids=map(str, range(11)),  # tokens are made anew at each run, the names of tests are not
)
def test_any_other_header_is_refused_as_wrong_and_recorded(header: str) -> None:
    audit = KeptAudit()
    with pytest.raises(Unauthenticated) as caught:
        Tokens(CONFIGURED, audit=audit).authenticate(header, "10.0.0.7")
    assert caught.value.challenge == 'Bearer realm="gateway", error="invalid_token"'
    assert audit.events == [
        Event("authenticate", Outcome.DENIED, ANONYMOUS, "10.0.0.7", "web", reason="wrong credentials")
    ]


@pytest.mark.parametrize("header", [None, ""])
def test_without_a_header_a_token_is_asked_for(header: str | None) -> None:
    audit = KeptAudit()
    with pytest.raises(Unauthenticated) as caught:
        Tokens(CONFIGURED, audit=audit).authenticate(header, "10.0.0.7")
    assert caught.value.challenge == 'Bearer realm="gateway"'
    assert audit.events[0].reason == "no credentials"


@pytest.mark.parametrize("header", [None, "Bearer whatever"])
def test_when_no_tokens_are_named_everybody_may_do_everything(header: str | None) -> None:
    caller = Tokens(()).authenticate(header, "127.0.0.1")
    assert (caller.identity, caller.rights) == (ANONYMOUS, frozenset(Right))


def test_new_tokens_differ_and_fit_the_configuration() -> None:
    made = {new_token() for _ in range(100)}
    assert len({token for token, _ in made}) == len({digest for _, digest in made}) == 100
    token, digest = made.pop()
    named = Token(name="x", sha256=digest, rights=frozenset({Right.READ}))
    assert Tokens([named]).authenticate(f"Bearer {token}", "::1").identity == "x"
    assert token not in repr(named)
