"""What `ppir serve` tells its owner, and where."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest

from PPIRLogic.cli.main import parse
from PPIRLogic.cli.serve import ask_person, teller
from PPIRLogic.registration.request import LevelGrant, Request


def test_events_go_to_a_syslog_but_for_single_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"event": "listening", "address": "a:1"}, {"event": "evaluation", "level": 4}, {"event": "stopped"}]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        address = f"127.0.0.1:{receiver.getsockname()[1]}"
        tell = teller(SimpleNamespace(json=True, syslog=address, syslog_events=True))  # type: ignore[arg-type]
        for event in events:
            tell(event)
        lines = [receiver.recv(4096).decode() for _ in range(2)]
    sent = [json.loads(line.partition("ppir: event ")[2]) for line in lines]
    assert sent == [events[0], events[2]]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == events


def test_events_need_a_syslog(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["serve", "a.nrrd", "--syslog-events"])
    assert "--syslog" in capsys.readouterr().err


@pytest.mark.parametrize("frame", [True, False], ids=["told", "not told"])
def test_the_question_says_that_the_frame_of_reference_is_told(
    frame: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda: "y")
    request = Request("atlas", "fhe", "rigid", "ncc", (4,))
    assert ask_person(frame, "Hospital A", request, [LevelGrant(4, 900, 10, 6, 1000)])
    asked = capsys.readouterr().err
    assert "Hospital A asks" in asked and ("--disclose-frame" in asked) is frame
