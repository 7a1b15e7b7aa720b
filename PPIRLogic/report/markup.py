"""The page's building blocks. Whatever reaches it as a value is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from PPIRLogic.report.figures import Picture


def escape(text: Any) -> str:
    return html.escape(str(text), quote=True)


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[Any]], foot: Iterable[Sequence[Any]] = ()) -> str:
    """A table whose cells are all escaped. align: a letter per column: l, r, n (left, unbroken)."""

    def line(cells: Sequence[Any], tag: str) -> str:
        inner = (f'<{tag} class="{a}">{escape(c)}</{tag}>' for c, a in zip(cells, align, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    top = line(head, "th")
    body = "".join(line(row, "td") for row in rows)
    bottom = "".join(line(row, "td") for row in foot)
    bottom = f"<tfoot>{bottom}</tfoot>" if bottom else ""
    return f'<div class="wide"><table><thead>{top}</thead><tbody>{body}</tbody>{bottom}</table></div>'


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """A two-column table: names and values, all escaped."""
    body = "".join(f'<tr><th class="l" scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows)
    return f'<table class="pairs"><tbody>{body}</tbody></table>'


def image(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    text = escape(picture.caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


STYLE = """
:root { color: #1d2733; background: #fff; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; max-width: 62rem;
  margin: 0 auto; padding: 1.5rem 1.25rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; margin: 0 0 .4rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid #d9dee4; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: 0 0 .7rem; max-width: 50rem; }
section { margin-top: 2rem; }
section.more { margin-top: 1.2rem; }
header { border-left: .4rem solid #2e7d4f; background: #f1f8f3; padding: 1rem 1.25rem .5rem; border-radius: .25rem; }
header.warn { border-color: #b26a00; background: #fdf6e9; }
.when { color: #5a6672; font-size: .87rem; margin: 0; }
.said { font-family: ui-monospace, Consolas, Menlo, monospace; font-size: .87rem; white-space: pre-wrap; }
.alarm { border-left: .3rem solid #b3261e; background: #fcefee; padding: .6rem .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; vertical-align: top; border-bottom: 1px solid #e6eaee; text-align: left; }
thead th { border-bottom: 2px solid #b9c2cb; vertical-align: bottom; font-weight: 600; }
th.r, td.r { text-align: right; }
td.r, td.n { white-space: nowrap; }
tfoot { display: table-row-group; }
tfoot td { font-weight: 600; background: #f6f8fa; }
.pairs th { font-weight: 400; color: #5a6672; padding-left: 0; white-space: nowrap; }
.pairs td { overflow-wrap: anywhere; }
figure { margin: .8rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .87rem; color: #5a6672; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 1.2rem; }
.details { columns: 2 17rem; column-gap: 2.5rem; }
.block { break-inside: avoid; margin-bottom: 1.3rem; }
ul { margin: 0 0 .7rem; padding-left: 1.2rem; max-width: 50rem; }
@page { margin: 15mm; }
@media print {
  body { font-size: 9.5pt; max-width: none; padding: 0; }
  header, .alarm, tfoot td { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .details { columns: 2; }
  figure img { max-height: 100mm; }
  figure, tr, header, .alarm { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; }
  th, td { padding: .15rem .35rem; }
  table { font-size: 8pt; }
  .two { grid-template-columns: 1fr 1fr; }
}
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Private image registration: report</title>
<style>@STYLE@</style>
</head>
<body>
@BODY@
</body>
</html>
"""
