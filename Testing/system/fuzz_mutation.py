"""Seeded mutations: of values, of bytes, of msgpack headers and of whole recorded conversations."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from PPIRLogic.network.channel import MAX_DEPTH, Message

EDGES: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 31, 32, 63, 64, 65, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**62 + 1, 2**63 - 1, -(2**63),
    2**64 - 1, 0.0, -0.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), True, False, None, "", "\x00",
    "\x1b[2J", "é" * 20, "\u202e", "fixed", "fhe", "mpc", "clear", "x" * 5000, b"", b"\x00", bytes(32), bytes(33), [],
    {},
)  # fmt: skip
KINDS = (
    "info", "open", "opened", "level", "key", "data", "evaluate", "request", "answer", "finish", "finished", "bye",
    "error", "join", "joined", "order", "correlation", "waiting", "resumes", "hello", "nonsense", "primis", "catalogue",
    "fetch", "chunk", "ask", "grant",
)  # fmt: skip


def junk(draw: random.Random, depth: int = 3) -> Any:
    """Any plain value, mostly at an edge of what is allowed."""
    choice = draw.random()
    if depth and choice < 0.1:
        return [junk(draw, depth - 1) for _ in range(draw.randrange(5))]
    if depth and choice < 0.2:
        return {draw.choice(KINDS): junk(draw, depth - 1) for _ in range(draw.randrange(4))}
    if choice < 0.75:
        return draw.choice(EDGES)
    if choice < 0.85:
        return draw.randrange(-(2**63), 2**64)
    return draw.randbytes(draw.choice((1, 4, 31, 32, 64, 500)))


def changed_value(draw: random.Random, value: Any) -> Any:
    """A neighbour of a valid value, or junk."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        return changed_map(draw, value)
    if isinstance(value, list) and value and draw.random() < 0.8:
        return changed_list(draw, value)
    if isinstance(value, bytes) and draw.random() < 0.7:
        return changed_bytes(draw, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and draw.random() < 0.6:
        return draw.choice((value + 1, value - 1, -value, 2 * value, float(value), value / 3, str(value)))
    if isinstance(value, str) and draw.random() < 0.4:
        return draw.choice((value + "x", value[:-1], value.upper(), value.encode()))
    return junk(draw)


def changed_map(draw: random.Random, data: dict[str, Any]) -> dict[str, Any]:
    out = dict(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        key = draw.choice(list(out)) if out else "x"
        choice = draw.random()
        if choice < 0.2:
            out.pop(key, None)
        elif choice < 0.3:
            out[draw.choice(KINDS)] = junk(draw)
        else:
            out[key] = changed_value(draw, out.get(key))
    return out


def changed_list(draw: random.Random, items: list[Any]) -> list[Any]:
    out, at = list(items), draw.randrange(len(items))
    choice = draw.random()
    if choice < 0.2:
        del out[at]
    elif choice < 0.4:
        out.insert(at, out[at])
    elif choice < 0.5:
        out = out * draw.choice((2, 10, 300))
    elif choice < 0.6:
        draw.shuffle(out)
    else:
        out[at] = changed_value(draw, out[at])
    return out


def changed_bytes(draw: random.Random, content: bytes) -> bytes:
    out = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(out) + 1)
        choice = draw.random()
        if choice < 0.3 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif choice < 0.45:
            del out[at:]
        elif choice < 0.6:
            out[at:at] = draw.randbytes(draw.choice((1, 2, 8, 60)))
        elif choice < 0.7:
            del out[at : at + draw.choice((1, 4, 8))]
        elif choice < 0.8:
            length = len(out[at : at + 8])
            out[at : at + 8] = draw.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * length
        elif choice < 0.9:
            out += out[: draw.choice((1, 8, 64))]
        elif at < len(out):
            out[at] = draw.randrange(256)
    return bytes(out)


# ---------------------------------------------------------------------------------------------- conversations


def changed_message(draw: random.Random, message: Message) -> Message:
    choice = draw.random()
    if choice < 0.45:
        return Message(message.kind, changed_map(draw, message.data), message.payload)
    if choice < 0.85:
        return Message(message.kind, message.data, changed_bytes(draw, bytes(message.payload)))
    return Message(draw.choice(KINDS), message.data, message.payload)


def any_message(draw: random.Random) -> Message:
    data = {draw.choice(KINDS): junk(draw) for _ in range(draw.randrange(4))}
    return Message(draw.choice(KINDS), data, draw.randbytes(draw.choice((0, 1, 8, 32, 1000))))


def changed_conversation(
    draw: random.Random, messages: Sequence[Message], others: Sequence[Sequence[Message]]
) -> list[Message]:
    """What one side said in a valid session, with messages lost, doubled, moved, replayed, changed or foreign."""
    out = list(messages)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if not out:
            break
        at, to = draw.randrange(len(out)), draw.randrange(len(out))
        choice = draw.random()
        if choice < 0.5:
            out[at] = changed_message(draw, out[at])
        elif choice < 0.6:
            del out[at]
        elif choice < 0.7:
            out.insert(at, out[at])  # doubled
        elif choice < 0.78:
            out[at], out[to] = out[to], out[at]
        elif choice < 0.81:
            out.append(out[at])  # replayed
        elif choice < 0.84:
            first, last = min(at, to), max(at, to) + 1
            out[last:last] = out[first:last]  # a whole exchange once more
        elif choice < 0.92:
            foreign = draw.choice(others)
            out[at] = foreign[min(at, len(foreign) - 1)]  # the same place of another session
        elif choice < 0.96:
            out.insert(at, any_message(draw))
        else:
            del out[at:]
    return out


# ----------------------------------------------------------------------------------------------- msgpack bombs


def bomb(draw: random.Random) -> bytes:
    """A msgpack header that costs more than it weighs, if it is let."""
    sizes = (1, 10, MAX_DEPTH, MAX_DEPTH + 2, 100, 500) if draw.random() < 0.95 else (20_000, 60_000)
    size = draw.choice(sizes)
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: b"\x91" * size,
        lambda: b"\x81\xa1a" * size,
        lambda: b"\x81\x91" * size,
        lambda: b"\xdd\xff\xff\xff\xff" + b"\xc0" * size,
        lambda: b"\xdf\xff\xff\xff\xff" + b"\xa1a\xc0" * size,
        lambda: b"\xdb\xff\xff\xff\xff" + b"a" * size,
        lambda: b"\xc6\x7f\xff\xff\xff" + b"a" * size,
        lambda: b"\xc9\x00\x00\x00\x08\x00" + bytes(size),
        lambda: b"\xd6\xff" + draw.randbytes(4),
        lambda: b"\xdc\xff\xff" + b"\xdc\xff\xff" * size,
        lambda: b"\x83\xa4kind\xa1x\xa3seq\x00\xa4data\x81\xa1a" + b"\x91" * size + b"\xc0",
        lambda: b"\x83\xa4kind\xa1x\xa3seq\xcf" + b"\xff" * 8 + b"\xa4data\x80",
        lambda: b"\x83\xa4kind\xa1x\xa4kind\xa1x\xa3seq\x00",
        lambda: draw.randbytes(size),
    )
    return draw.choice(makers)()
