"""One connection between two sites: framed messages over TLS 1.3 in which both sides show a certificate.

Who is allowed in is decided by the trust store alone: a peer's certificate counts if its fingerprint is trusted
or an institution's trusted authority issued it, and if it is valid now. Host names prove nothing here and are
not checked. Nothing that arrives is ever executed or unpickled: a frame is a fixed prefix, a msgpack map of plain
values and a payload of raw bytes, each with a limit, and anything else ends the connection.

    prefix   '!4sBII': b'PPIR', frame version, header length, payload length (bytes)
    header   msgpack {'kind': str, 'seq': int, 'data': map}; seq counts the frames of one direction from 0
    payload  bytes

Threads of a channel: a reader, which alone closes the socket, and a heartbeat. Any thread may send; one at a
time does. The TLS engine works on memory buffers so that a blocked send never stops the reader.

The files, each of which uses only those before it: addresses, frames, timed_socket, tls (encryption over it),
peer_certificate (who is allowed in), channel, handshake (what both ends do to get one), calling, dialling, relayed
(both sites' ends of a relay), connecting, sources, listener.
"""

from PPIRLogic.network.channel.addresses import parse_address
from PPIRLogic.network.channel.channel import CLOSING_KINDS, MAX_QUEUE, Channel, memory_pair
from PPIRLogic.network.channel.connecting import connect
from PPIRLogic.network.channel.frames import (
    FRAME_VERSION,
    MAX_DEPTH,
    MAX_HEADER,
    MAX_PAYLOAD,
    FrameReader,
    Message,
    encode_head,
    parse_header,
    parse_prefix,
)
from PPIRLogic.network.channel.listener import Listener, Quotas

__all__ = [
    "CLOSING_KINDS",
    "FRAME_VERSION",
    "MAX_DEPTH",
    "MAX_HEADER",
    "MAX_PAYLOAD",
    "MAX_QUEUE",
    "Channel",
    "FrameReader",
    "Listener",
    "Message",
    "Quotas",
    "connect",
    "encode_head",
    "memory_pair",
    "parse_address",
    "parse_header",
    "parse_prefix",
]
