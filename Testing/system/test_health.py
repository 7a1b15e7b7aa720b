"""`ppir serve --health`: whether this site's service answers, without a line in a log and without a word about what is
served; and a service that a file describes."""

from __future__ import annotations

import json
from pathlib import Path

from system_support import Phantom, Program, account_numbers, events_of, here, plain_grid, rows_of, save


def site(folder: Path) -> Path:
    """A site file beside an image."""
    folder.mkdir()
    grid = plain_grid(2)
    save(Phantom.make(grid).on(grid), folder / "fixed.nrrd")
    file = folder / "site.toml"
    file.write_text('images = ["fixed.nrrd"]\nname = ["atlas"]\nlisten = "127.0.0.1:0"\nthreads = 1\nhome = "home"\n')
    return file


def test_the_service_of_this_site_answers_until_it_ends(tmp_path: Path) -> None:
    file = site(tmp_path / "B")
    home = tmp_path / "B" / "home"
    with Program(tmp_path / "none", "serve", "--config", file) as server:
        listening = server.wait_for("listening")
        assert listening["images"] == ["atlas"]
        words = ("serve", "--config", file, "--listen", listening["address"], "--health")
        before = [r["event"] for r in rows_of(home / "audit.jsonl")]
        for _ in range(3):
            done = here(tmp_path / "none", *words, "--json")
            assert done.returncode == 0, done.stderr
            (event,) = events_of(done)
            assert event["event"] == "healthy" and event["address"] == listening["address"]
        own = json.loads(here(home, "identity", "--json").stdout)["fingerprint"]
        assert event["fingerprint"] == own
        assert "atlas" not in done.stdout
        assert [r["event"] for r in rows_of(home / "audit.jsonl")] == before == ["listening"]

        # another site's key at the same place is not this site's service, and is refused on record as any stranger is
        here(tmp_path / "C", "identity")
        other = here(tmp_path / "C", "serve", "--health", "--listen", listening["address"])
        assert other.returncode == 8 and "not the service of this site" in other.stderr
        server.wait_for("refused connection")
    gone = here(tmp_path / "none", *words)
    assert gone.returncode == 8 and "does not answer" in gone.stderr
    assert account_numbers(home) == 0


def test_a_health_check_makes_no_site(tmp_path: Path) -> None:
    done = here(tmp_path / "nobody", "serve", "--health", "--listen", "127.0.0.1:1")
    assert done.returncode != 0 and "no site" in done.stderr
    assert not (tmp_path / "nobody").exists()


def test_behind_a_relay_there_is_nothing_to_ask(tmp_path: Path) -> None:
    done = here(tmp_path, "serve", "--health", "--relay", "127.0.0.1:1")
    assert done.returncode == 2 and "nothing listens here" in done.stderr
