"""Write what follows from the code: the pages of Docs/reference (options, commands, errors, limits), deploy/site.toml.

    python Docs/make_reference.py [--check]

--check writes nothing and says which pages are out of date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PPIRLogic import errors

FOLDER = Path(__file__).resolve().parent / "reference"
MADE = "Made by `Docs/make_reference.py`; change the code, not this page."


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(v) for v in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _code(value: Any) -> str:
    return f"`{value}`" if str(value) else ""


# ------------------------------------------------------------------------------------------- options


def options() -> str:
    """The option table of a registration."""
    from PPIRLogic.registration.options import OPTIONS

    rows = [
        (_code(o.name), _code(o.option), KINDS[o.kind], default_of(o), range_of(o), ", ".join(o.of), o.words)
        for o in OPTIONS.values()
    ]
    head = ("parameter", "command line", "type", "default", "range or choices", "only of", "what it says")
    return f"""# Options of a registration

{MADE}

The fields of `PPIRLogic.Parameters` and the options of `ppir register`, `ppir simulate` and `ppir estimate`.
[Choose](../how-to/choose.md) says which to take. Where no default is set, it follows from the images or the method.

{table(head, rows)}
"""


KINDS = {
    "choice": "one of",
    "whole": "whole number",
    "number": "number",
    "counts": "whole numbers with commas between them",
    "yes": "switch",
    "transform": "one of, or a file",
}


def default_of(option: Any) -> str:
    if option.optional:
        return option.usual
    return "off" if option.default is False else _code(option.default)


def range_of(option: Any) -> str:
    """The choices or the range of an option, with its unit."""
    if option.allowed:
        return ", ".join(_code(c) for c in option.allowed)
    if math.isinf(option.low):
        return ""
    low, high = written(option.low), written(option.high)
    if math.isinf(option.high):
        text = f"{'above' if option.above else 'at least'} {low}"
    else:
        text = f"above {low}, at most {high}" if option.above else f"{low} to {high}"
    return f"{text} {option.unit}".strip()


def written(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


# ------------------------------------------------------------------------------------------ commands


def commands() -> str:
    """Every command of ppir with its arguments, from the parser itself."""
    from PPIRLogic.cli.main import build_parser
    from PPIRLogic.registration.options import OPTIONS

    of_runs = {o.option for o in OPTIONS.values()}
    parser = build_parser()
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts = [f"# Commands\n\n{MADE}\n\n`ppir COMMAND --help` shows the same on the terminal."]
    for name, command in flat(subparsers):
        example = (command.epilog or "").partition("\n")[2].strip()
        actions = [a for a in command._actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        of_run = [a for a in actions if of_runs & set(a.option_strings)]
        run = len(of_run) == len(of_runs)
        rows = [row(a) for a in actions if not run or a not in of_run]
        head = ("argument", "default", "what it says")
        wrapped = textwrap.fill(command.description or "", 120)
        parts.append(f"## ppir {name}\n\n{wrapped}\n\n```\n{example}\n```\n\n{table(head, rows)}")
        if run:
            parts.append("And the [options of a registration](options.md).")
    return "\n\n".join(parts) + "\n"


def flat(subparsers: argparse._SubParsersAction[Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Every command by its words; of a group, such as `primis`, those within it."""
    for name, command in subparsers.choices.items():
        inner = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
        yield from flat(inner[0], f"{before}{name} ") if inner else [(before + name, command)]


def row(action: argparse.Action) -> tuple[str, str, str]:
    names = ", ".join(_code(o) for o in action.option_strings) or _code(action.dest)
    text = (action.help or "").replace("%%", "%")
    if action.choices is not None:
        text = f"{text}{'; ' if text else ''}one of {', '.join(_code(c) for c in action.choices)}"
    if action.dest == "threads":
        return names, "all cores", text
    if action.required and action.option_strings:
        return names, "required", text
    plain = action.default in (None, False, "", []) or action.default is argparse.SUPPRESS
    return names, "" if plain else _code(action.default), text


# -------------------------------------------------------------------------------------------- errors


def errors_page() -> str:
    """Every error with its exit code and its words, from errors.py."""
    words = dict(re.findall(r"^[ │├└─]+(\w+) {2,}(.+)$", inspect.getdoc(errors) or "", re.MULTILINE))
    family = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.PPIRError) and kind is not errors.PPIRError
    ]
    family.sort(key=lambda kind: (kind.exit_code, len(kind.__mro__), kind.__name__))
    rows = [(_code(k.__name__), _code(k.__bases__[0].__name__), k.exit_code, words.get(k.__name__, "")) for k in family]
    return f"""# Errors and exit codes

{MADE}

Every deliberate error is a `PPIRLogic.PPIRError`. Its message says what happened, where, and what to do. None carries
image content, keys, masks or shares. On the command line the message goes to standard error, or with `--json` to
standard output as `{{"event": "error", "error": NAME, "text": MESSAGE}}`, and the exit code is that of the error.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | an internal error: a bug. `PPIR_DEBUG=1` shows the details on this machine |
| 2 | bad input, or a command line that is not understood |

{table(("error", "is a", "exit code", "meaning"), rows)}

A run that ended early after its first evaluation writes its best transform and its report (`complete: false`), and ends
with the exit code of the error that ended it.
"""


# -------------------------------------------------------------------------------------------- limits


def limits() -> str:
    """Every limit that the pages on privacy rest on, from the constants that the code uses."""
    rows = [(what, value, changed, ", ".join(map(_code, tests))) for what, value, changed, *tests in _limits()]
    return f"""# Limits

{MADE}

[The ledger and the budget](../privacy/ledger_and_budget.md) says what the budget means,
[verified](../privacy/verified.md) what a failed test is. What the network may take up is in
[run as a service](../how-to/run_as_a_service.md).

{table(("what", "limit", "changed by", "shown by"), rows)}
"""


def _limits() -> list[tuple[str, ...]]:
    from PPIRLogic.disclosure.accounts import Budget
    from PPIRLogic.disclosure.failed_checks import MAX_FAILURES
    from PPIRLogic.disclosure.ledger import VOXEL_BITS
    from PPIRLogic.network.identity import FINGERPRINT_CHARACTERS, VALID_DAYS
    from PPIRLogic.primis import cards, grants, party2, sealed_file
    from PPIRLogic.primis.policy import SharingPolicy
    from PPIRLogic.proxy import party2 as proxy_party2
    from PPIRLogic.proxy.deformation import INVERSE_MM, JACOBIAN
    from PPIRLogic.proxy.messages import MAX_VOXELS
    from PPIRLogic.registration.disclosure_estimate import MIN_EVALUATIONS
    from PPIRLogic.registration.names import RECONNECT
    from PPIRLogic.registration.party1.reconnecting import MAX_REPEATS
    from PPIRLogic.registration.party2.unfinished_sessions import GRANT_SECONDS, MAX_UNFINISHED_OF_PEER
    from PPIRLogic.registration.request import LOST_ANSWERS
    from PPIRLogic.registration.sampling import MIN_POOL, pool_size
    from PPIRLogic.secure.fhe import parameters, protocol, slots
    from PPIRLogic.secure.mpc import protocol as mpc

    budget, accounts = Budget(), "Testing/unit/disclosure/test_accounts.py"
    unfinished = "Testing/unit/registration/party2/test_unfinished_sessions.py"
    bits = f"{protocol.BITS} (`fhe`), {slots.SLOT_BITS} (`fhe`, per control point), {mpc.BITS} (`mpc`)"
    bound = f"{accounts}::test_no_sequence_of_requests_passes_any_limit"
    return [
        ("numbers at a level, over all sessions of a peer, of the level's measurable voxels",
         f"{budget.percent_per_level:g} %", "`ppir serve --budget-percent`", bound),
        (f"bits at a level, of {VOXEL_BITS} bits per such voxel", f"{budget.bits_percent_per_level:g} %",
         "`--budget-bits`", bound),
        ("numbers in a session, over all of its connections", f"{budget.numbers_per_session}", "`--budget-session`",
         bound),
        ("numbers of a subject, over all sessions of a peer", f"{budget.numbers_per_image}", "`--budget-image`", bound),
        ("joint histograms at a level, over all sessions of a peer", f"{budget.histograms_per_level}",
         "`--budget-histograms`",
         "Testing/unit/registration/losses/test_mutual_information.py::test_the_number_of_histograms_is_bounded_over_restarts"),
        ("what all peers together may learn, times what one may", f"{budget.times_per_subject:g}", "`--budget-subject`",
         "Testing/attacks/test_budgets.py"),
        ("bits that a number is counted with", bits, "",
         "Testing/attacks/test_fhe.py::test_one_number_can_carry_three_voxels_so_bits_are_counted"),
        ("tests of a peer that failed or were left, or of all peers about a subject that failed: then a person decides",
         f"{MAX_FAILURES}",
         "`ppir trust lift` forgives them",
         "Testing/unit/disclosure/test_failed_checks.py::test_three_failures_block_until_a_person_lifts_them",
         "Testing/attacks/test_failures.py"),
        ("answers under one key (`fhe`)", "those of one level of one session; a resumed session has new keys", "",
         "Testing/unit/secure/fhe/test_protocol.py::test_every_level_has_a_factor_of_its_own"),
        ("how long a grant holds", f"{GRANT_SECONDS / 3600:g} h", "",
         f"{unfinished}::test_it_ends_after_a_day_whatever_the_clock_does",
         "Testing/attacks/test_consent.py::test_a_grant_expires"),
        ("lost connections of a session after each of which one answer more is allowed than was granted",
         f"{LOST_ANSWERS}", "", f"{unfinished}::test_each_loss_allows_one_answer_more_up_to_a_number"),
        ("unfinished sessions of a peer that are kept", f"{MAX_UNFINISHED_OF_PEER}", "",
         f"{unfinished}::test_abandoned_sessions_do_not_fill_the_disk"),
        ("times that party 1 repeats one and the same exchange", f"{MAX_REPEATS}", "",
         "Testing/unit/registration/party1/test_reconnecting.py"),
        ("how long party 1 tries to reach a peer again that was lost", f"{RECONNECT:g} s",
         "`ppir register --reconnect`",
         "Testing/system/test_resume.py::test_the_patience_ends"),
        ("evaluations that every level of a run must be able to afford", f"{MIN_EVALUATIONS}", "",
         "Testing/system/test_bad_input.py::test_a_budget_that_is_too_small_is_refused_with_numbers"),
        ("samples of a joint histogram, at least", f"{MIN_POOL}", "",
         "Testing/unit/registration/losses/test_mutual_information.py::test_a_small_pool_is_refused"),
        ("voxels of the pool of joint histograms",
         f"{pool_size(3, False)} (3D), {pool_size(3, True)} (3D, deformable), {pool_size(2, False)} (2D)", "",
         "Testing/attacks/test_pool.py"),
        ("sums that `fhe` computes exactly, in magnitude below",
         f"{parameters.PLAIN_MODULUS // 2:.3g}; per control point {slots.RANGE // 2:.3g}", "",
         "Testing/system/test_bad_input.py::test_an_overflow_is_noticed_before_anything_is_sent",
         "Testing/unit/secure/fhe/test_slots.py::test_sums_stay_within_the_exact_range_whatever_the_images"),
        ("validity of a certificate that the program makes", f"{VALID_DAYS} days", "`ppir identity --renew`",
         "Testing/system/test_tls.py::test_a_renewed_certificate_is_the_same_peer"),
        ("bytes of a grant of a sealed image", f"{grants.MAX_GRANT}", "",
         "Testing/unit/primis/test_grants.py::test_a_grant_has_at_most_400_bytes"),
        ("how long such a grant holds, and a card", f"{grants.DAYS} days, {cards.DAYS} days",
         "`ppir primis grant --days`, `ppir primis card --days`",
         "Testing/unit/primis/test_grants.py::test_an_expired_grant_is_refused",
         "Testing/unit/primis/test_cards.py::test_a_card_holds_from_its_day_to_its_end"),
        ("bytes of a code of a sealed image beside its payload, before it is filled", f"{sealed_file.OVERHEAD}", "",
         "Testing/unit/primis/test_sealed_file.py::test_the_overhead_is_at_most_64_bytes_a_code"),
        ("grants of one sealed image for a peer, over all sessions", f"{SharingPolicy().grants}",
         "`ppir primis serve --grants`",
         "Testing/system/test_primis_service.py::test_so_many_grants_also_after_a_restart"),
        ("questions of a peer for grants, at once and then one every so many seconds",
         f"{party2.QUESTIONS}, {party2.QUESTION_SECONDS:g} s", "",
         "Testing/system/test_primis_service.py::test_too_many_questions"),
        ("proxies of a peer, at once and then one every so many seconds",
         f"{proxy_party2.SEGMENTATIONS}, {proxy_party2.SEGMENTATION_SECONDS:g} s", "",
         "Testing/system/test_proxy_service.py::test_so_many_proxies_of_one_site"),
        ("how long a proxy may take to come in", f"{proxy_party2.UPLOAD:g} s", "",
         "Testing/system/test_proxy_service.py::test_a_proxy_that_comes_too_slowly"),
        ("voxels of a proxy", f"{MAX_VOXELS}", "", "Testing/system/test_proxy_service.py::test_fields_that_cannot_be"),
        ("determinant of a proxy's deformation, at least, and its way back, at most",
         f"{JACOBIAN:g}, {INVERSE_MM:g} mm", "",
         "Testing/unit/proxy/test_deformation.py::test_no_fold_and_back_again_to_a_tenth_of_a_millimetre"),
        ("bits of a fingerprint", f"{5 * FINGERPRINT_CHARACTERS}", "",
         "Testing/unit/network/test_identity.py::test_fingerprint_depends_on_the_key_only"),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------- a site's file


def site_file() -> str:
    """deploy/site.toml: every option of `ppir serve` with what it is where it is not given."""
    from PPIRLogic.cli.main import build_parser
    from PPIRLogic.cli.parsers.site_file import command_parser, is_names, key_of, keys_of, kind_of

    parts = [
        "# A site that serves images: ppir serve --config site.toml",
        "# Made by Docs/make_reference.py from the options of `ppir serve`; a test says where it is out of date.",
        "# Keys are options without their dashes. What is typed beats this file. Paths are below its folder.",
        "# A line that begins with `# key =` shows the value where nothing is said. Take its # away to change it.",
    ]
    serve = command_parser(build_parser("serve"), "serve")
    for key, action in keys_of(serve).items():
        told = textwrap.wrap((action.help or "").replace("%%", "%"), 110)
        value = {"images": ["atlas.nrrd"], "name": ["atlas"]}.get(key, action.default)
        if key in ("threads", "protocols") or value is None:
            value = {"threads": 2, "protocols": ["fhe", "mpc"], "home": "/var/lib/ppir"}[key]
        if is_names(action) and isinstance(value, str):
            value = value.split(",")
        given = "" if key in ("images", "name") else "# "
        parts.append("\n".join([*(f"# {line}" for line in [*told[:-1], f"{told[-1]}: {kind_of(action)}"]),
                                f"{given}{key_of(action)} = {_toml(value)}"]))  # fmt: skip
    return "\n".join(parts[:4]) + "\n\n" + "\n\n".join(parts[4:]) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML, which is JSON for all that options are."""
    return json.dumps(value, ensure_ascii=False)


PAGES: dict[str, Callable[[], str]] = {
    "options.md": options, "commands.md": commands, "errors.md": errors_page, "limits.md": limits,
    "../../deploy/site.toml": site_file,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is out of date")
    check = parser.parse_args().check
    old = []
    for name, make in PAGES.items():
        text, page = make(), FOLDER / name
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        old.append(name)
        if not check:
            page.write_text(text, encoding="utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(old) or 'none'}")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
