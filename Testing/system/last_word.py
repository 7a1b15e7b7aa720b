"""Run a `ppir` that is killed (-9) at the last word of a session: `last_word.py before|after python -u -m PPIRLogic …`.

'before': as it is about to say 'finished'. 'after': that is said, and the peer has not said goodbye yet.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from PPIRLogic.cli.main import main
from PPIRLogic.network.channel import Channel

WHEN, ARGUMENTS = sys.argv[1], sys.argv[sys.argv.index("PPIRLogic") + 1 :]
_send = Channel.send


def send(channel: Channel, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
    if kind != "finished" or WHEN == "after":
        _send(channel, kind, data, payload)
    if kind == "finished":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Channel.send = send  # type: ignore[method-assign]
    main(ARGUMENTS)
