"""Which abstract and transfer syntaxes are taken (PS3.4 B.5, PS3.5 10)."""

import pytest
from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts

from gateway.dimse.syntaxes import STORAGE_SERVICE, Service, choose_transfer_syntax, service_of

DS = "1.2.840.10008.1.2"
REFUSED_SYNTAXES = {
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.6.1",
    "1.2.840.10008.1.2.6.2",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
    "1.2.840.10008.1.20",
}


def test_every_storage_class_of_pynetdicom_is_storage() -> None:
    assert {service_of(str(context.abstract_syntax)) for context in AllStoragePresentationContexts} == {Service.STORAGE}


def test_every_retired_and_foreign_storage_class_of_the_registry_is_storage() -> None:
    registered = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and "Storage" in entry[0]]
    refused = {uid for uid in registered if service_of(uid) is None}
    assert {UID_dictionary[uid][0] for uid in refused} == {
        "Media Storage Directory Storage",
        "Storage Commitment Push Model SOP Class",
        "Storage Commitment Pull Model SOP Class",
        "Hanging Protocol Storage",
        "Color Palette Storage",
        "Generic Implant Template Storage",
        "Implant Assembly Template Storage",
        "Implant Template Group Storage",
        "CT Defined Procedure Protocol Storage",
        "XA Defined Procedure Protocol Storage",
        "Protocol Approval Storage",
        "Inventory Storage",
    }
    assert len(registered) - len(refused) > 180


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.2.1.1",  # Patient Root FIND
        "1.2.840.10008.5.1.4.1.2.2.3",  # Study Root GET
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.1.20.1",  # Storage Commitment
        "1.2.840.10008.3.1.2.3.3",  # MPPS
        "1.2.840.10008.5.1.1.9",  # Print
        "1.2.840.10008.5.1.4.34.6.1",  # UPS
        "1.2.840.10008.5.1.4.1.1.201.2",  # Inventory FIND
        "1.2.840.10008.1.3.10",  # DICOMDIR
        "1.2.840.10008.99.1",
        "",
    ],
)
def test_other_services_are_not_offered(uid: str) -> None:
    assert service_of(uid) is None


def test_known_services_stay_refused_whatever_the_peer_declares() -> None:
    assert service_of("1.2.840.10008.5.1.4.1.2.1.1", STORAGE_SERVICE) is None
    assert service_of("1.2.840.10008.1.3.10", STORAGE_SERVICE) is None


def test_unknown_classes_are_storage_when_settings_or_the_peer_say_so() -> None:
    assert service_of("1.2.276.0.1") is Service.STORAGE
    assert service_of("1.2.276.0.1", accept_unknown=False) is None
    assert service_of("1.2.276.0.1", STORAGE_SERVICE, accept_unknown=False) is Service.STORAGE
    assert service_of("1.2.840.10008.99.1", STORAGE_SERVICE) is Service.STORAGE
    assert service_of("1.2.840.10008.5.1.4.1.1.9999") is Service.STORAGE  # newer than this program


def test_every_transfer_syntax_of_the_registry_is_taken_but_references_streams_and_text() -> None:
    registered = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert {uid for uid in registered if choose_transfer_syntax((uid,)) is None} == REFUSED_SYNTAXES
    assert choose_transfer_syntax(("1.2.840.10008.1.2.4.110",)) == "1.2.840.10008.1.2.4.110"  # JPEG XL
    assert choose_transfer_syntax(("1.2.840.113619.5.2",)) == "1.2.840.113619.5.2"  # GE


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((DS, DS + ".1"), ".1"),
        ((DS, DS + ".4.70"), ".4.70"),
        ((DS, DS + ".4.50"), ""),
        ((DS + ".4.50", DS + ".4.91", DS + ".1.99"), ".1.99"),
        ((DS + ".2", DS), ""),
        ((DS + ".1.99", DS + ".2"), ".2"),
        ((DS + ".4.50", DS + ".5"), ".5"),
        ((DS + ".4.94", DS + ".4.51"), ".4.51"),
    ],
)
def test_lossless_compression_comes_first_and_loss_last(proposed: tuple[str, ...], chosen: str) -> None:
    assert choose_transfer_syntax(proposed) == DS + chosen
    assert choose_transfer_syntax(proposed[::-1]) == DS + chosen, "the order of the proposal is no preference"


def test_a_private_transfer_syntax_is_the_last_resort() -> None:
    assert choose_transfer_syntax(("1.2.276.9", DS + ".4.50")) == DS + ".4.50"
    assert choose_transfer_syntax(("1.2.276.9",)) == "1.2.276.9"
    assert choose_transfer_syntax(("not a UID", "")) is None
    assert choose_transfer_syntax(()) is None
