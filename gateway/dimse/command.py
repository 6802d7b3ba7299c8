"""DIMSE command sets: group 0000, Implicit VR Little Endian (PS3.7 6.3.1, Annex E), coded without detours."""

import struct
from dataclasses import dataclass

from gateway.dimse.pdu import ProtocolError
from storage.objects import Buffer

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
RESPONSE = 0x8000  # the bit that makes a response of a request
NO_DATA_SET = 0x0101

# Elements of group 0000 (PS3.7 E.1)
AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, MESSAGE_ID_RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
PRIORITY, DATA_SET_TYPE, STATUS, OFFENDING_ELEMENT = 0x0700, 0x0800, 0x0900, 0x0901
ERROR_COMMENT, AFFECTED_SOP_INSTANCE = 0x0902, 0x1000

MAX_COMMAND_BYTES = 1 << 16
MAX_COMMENT_CHARACTERS = 64

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Command:
    """A command set: element number -> value as sent."""

    elements: dict[int, bytes]

    @property
    def field(self) -> int:
        return self.number(COMMAND_FIELD)

    @property
    def has_data_set(self) -> bool:
        return self.number(DATA_SET_TYPE) != NO_DATA_SET

    def number(self, element: int) -> int:
        """An unsigned short; ProtocolError when it is missing."""
        value = self.elements.get(element, b"")
        if len(value) != _US.size:
            raise ProtocolError(f"the command set has no valid (0000,{element:04X})")
        return int(_US.unpack(value)[0])

    def text(self, element: int) -> str:
        """A UID or string without padding, empty when it is missing or not ASCII."""
        value = self.elements.get(element, b"").strip(b" \0")
        return value.decode("ascii") if value.isascii() else ""


def decode(data: Buffer) -> Command:
    """Read a command set; ProtocolError when it is not one."""
    elements: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < _ELEMENT.size:
            raise ProtocolError("a command set is cut short")
        group, element, length = _ELEMENT.unpack_from(data, position)
        position += _ELEMENT.size
        if group != 0 or length > end - position:
            raise ProtocolError("a command set has an element that does not belong or does not fit")
        elements[element] = bytes(data[position : position + length])
        position += length
    return Command(elements)


def encode(elements: dict[int, int | str | bytes]) -> bytes:
    """A command set with its group length: numbers as US, text padded as UI or LO; ascending order is kept here."""
    body = bytearray()
    for element in sorted(elements):
        value = _encoded(element, elements[element])
        body += _ELEMENT.pack(0, element, len(value))
        body += value
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + bytes(body)


def _encoded(element: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _US.pack(value)
    if isinstance(value, str):
        value = value.encode("ascii", "replace")
        return value + (b" " if element == ERROR_COMMENT else b"\0") * (len(value) % 2)
    return value


def response(request: Command, status: int, comment: str = "", offending: int | None = None) -> bytes:
    """The response to `request`: echoes Message ID and Affected SOP Class and Instance UID (PS3.7 9.3.1.2)."""
    elements: dict[int, int | str | bytes] = {
        COMMAND_FIELD: request.field | RESPONSE,
        MESSAGE_ID_RESPONDED_TO: request.number(MESSAGE_ID),
        DATA_SET_TYPE: NO_DATA_SET,
        STATUS: status,
    }
    for echoed in (AFFECTED_SOP_CLASS, AFFECTED_SOP_INSTANCE):
        if echoed in request.elements:
            elements[echoed] = request.elements[echoed]
    if offending is not None:
        elements[OFFENDING_ELEMENT] = struct.pack("<HH", offending >> 16, offending & 0xFFFF)
    if comment:
        elements[ERROR_COMMENT] = comment[:MAX_COMMENT_CHARACTERS].replace("\\", "/").rstrip()
    return encode(elements)
