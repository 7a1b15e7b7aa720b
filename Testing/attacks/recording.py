"""The rows of Docs/results/attacks.md: what each attack got without the protection, and what it got from us."""

from __future__ import annotations

from collections.abc import Callable

Record = Callable[[str, str, str], None]
ROWS: dict[str, tuple[str, str, str]] = {}

HEAD = """# Attacks, and what they got

Written by `make attacks` on {date} at {commit}. Each row is a test: it plays the curious or dishonest side on what
really travels, first on a variant without the protection, where it must succeed, then on ours. Correlations are with
the hidden data; "chance" is six standard errors of the correlation of unrelated vectors. Rows with *known limit*
show attacks that succeed: [Protocols](../privacy/protocols.md) and
[verified](../privacy/verified.md) say what they are worth.

| attack | without the protection | PPIRExtension | test |
|---|---|---|---|
"""


def table(date: str, commit: str) -> str:
    """The document, one row per attack in the order in which they ran."""
    rows = [
        f"| {attack} | {unprotected} | {ours} | `{test.split('/')[-1].split('::')[0]}` |"
        for attack, (unprotected, ours, test) in ROWS.items()
    ]
    return HEAD.format(date=date, commit=commit) + "\n".join(rows) + "\n"
