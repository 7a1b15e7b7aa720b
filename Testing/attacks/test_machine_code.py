"""What the processor is given: no division, branch or address that depends on values which a kernel reads from arrays.

Every compiled function of the protocols is looked at twice, as it was compiled for a real run: in LLVM's own language,
where what depends on a value that was read can be followed, and in the machine code, where the last step of the
compiler could have put in a division or a jump. Sizes, strides and moduli are arguments of a function, not read by it.
The controls are kernels with a division, a branch and an address of that kind.
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numba import njit
from recording import Record

import PPIRLogic.secure
from PPIRLogic.compiled import Compiled, compiled
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.columns import linear
from PPIRLogic.registration.control_points import control_point_map_of
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.evaluator import Accumulator
from PPIRLogic.secure.fhe.parameters import PRIMES
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import Term
from PPIRLogic.transforms import LinearTransform, bspline_basis

RNG = np.random.default_rng(1)
DIVISION = r"= (?:[us](?:div|rem) (?:exact )?(?=.*, %)|f(?:div|rem) )(.*)"
# A word that is refused is thrown away, and says nothing of those that are kept.
REJECTION = {"uniform_below", "ternary"}
PUBLIC = {
    "primes",
    "inverses",
    "quotients",
    "twiddle",
    "quotient",
    "start",
}  # arguments that hold what both parties know


@dataclass(frozen=True)
class Code:
    """One compiled function, without what only takes Python's objects apart."""

    name: str
    language: list[str]  # LLVM's
    machine: list[str]

    def found(self) -> set[str]:
        """What in it depends on values that it reads: 'division', 'branch', 'address'."""
        steps = dict(m.groups() for line in self.language if (m := re.match(r"\s+(%[\w.]+) = (.*)", line)))
        read = self._read(steps)
        out = set()
        for line in self.language:
            if (m := re.search(DIVISION, line)) and read & names(m[1]):
                out.add("division")
            if (m := re.match(r"\s+(?:br i1|switch \w+) (%[\w.]+)", line)) and m[1] in read:
                out.add("branch")
            if (m := re.search(r" = getelementptr (.*)", line)) and read & names(m[1]):
                out.add("address")
        if self.divides():
            out.add("division")
        added = self._jumps() > self._branches(
            steps
        )  # by the last step of the compiler: a copy, or a choice made a jump?
        return out | ({"branch"} if added and jumps_by_read(self.machine) else set())

    def divides(self) -> bool:
        """Whether whole numbers are divided by anything."""
        return any(re.match(r"\s+i?div[bwlq]?\s", line) for line in self.machine)

    def _read(self, steps: dict[str, str]) -> set[str]:
        """The values that were read, or made of such."""
        base = {n: re.findall(r"ptr (%[\w.]+)", what) for n, what in steps.items() if "getelementptr" in what}

        def is_public(pointer: str) -> bool:
            while pointer in base:
                pointer = base[pointer][0]
            return (m := re.match(r"%arg\.(\w+)", pointer)) is not None and m[1] in PUBLIC

        out: set[str] = set()
        for name, what in steps.items():
            if re.match(r"load (?!ptr\b)", what) and not is_public(re.findall(r"ptr (%[\w.]+)", what)[0]):
                out.add(name)
        passed_on = {n: names(what) for n, what in steps.items() if not re.match(r"(tail )?call i32 @_ZN", what)}
        while more := {n for n, parts in passed_on.items() if n not in out and out & parts}:
            out |= more
        return out

    def _jumps(self) -> int:
        return sum(bool(re.match(r"\s+j(?!mp)\w+\s", line)) for line in self.machine)

    def _branches(self, steps: dict[str, str]) -> int:
        """How many jumps its branches may become: one for each condition that one of them joins."""

        def conditions(name: str) -> int:
            joined = re.match(r"(?:or|and) i1 |select i1 .*, i1 ", steps.get(name, ""))
            return sum(map(conditions, names(steps[name]))) if joined else 1

        found = [re.match(r"\s+br i1 (%[\w.]+)", line) for line in self.language]
        cases = sum(line.count(", label") for line in self.language if re.match(r"\s+(?:switch|i32) ", line))
        return sum(conditions(m[1]) for m in found if m) + cases


def jumps_by_read(machine: list[str]) -> list[str]:
    """Jumps by a value that was read from memory, not from the stack, since the last label."""
    out: list[str] = []
    read: set[str] = set()
    flags = False
    for line in machine:
        if not (m := re.match(r"\s+([a-z]\w*)\s+(.*?)\s*(?:#.*)?$", line)):
            read = set() if re.match(r"[.\w$]+:", line) else read
            continue
        what, operands = m[1], re.findall(r"[^,(]*\([^)]*\)|[^,\s]+", m[2])
        if what[0] == "j":
            out += [line.strip()] if flags and what != "jmp" else []
            continue
        registers = [register(o) for o in operands]
        loads = any("(" in o and not re.search(r"\(%r[si]p", o) for o in operands) and not what.startswith("lea")
        stores = "(" in operands[-1] if operands else False
        from_read = (
            bool(read & set(registers)) or (loads and not stores) or (loads and what.startswith(("cmp", "test")))
        )
        if not re.match(r"v(?!u?comis|ptest)|k(?!ortest|test)|mov|lea|cmov|set|push|pop|not", what):
            flags = from_read
        if operands and registers[-1] and not re.match(r"cmp|test|v?u?comis", what):
            moved = re.match(r"mov|vmov|lea|vpmov|vcvt", what)
            fresh = from_read if not moved else loads or bool(read & set(registers[:-1]))
            read = read | {registers[-1]} if fresh else read - {registers[-1]}
    return out


def register(operand: str) -> str:
    """The one name of a register of any width; '' for anything else."""
    if not (m := re.fullmatch(r"%([re]?)([a-z]+|\d+|[xyz]mm\d+|k\d)[dwb]?", operand.strip())):
        return ""
    return re.sub(r"^[xyz]mm", "v", m[2]) if not m[1] else m[2].rstrip("x")


def names(text: str) -> set[str]:
    """The values that a step of LLVM's language names."""
    return set(re.findall(r"%[\w.]+", text))


def codes(function: Compiled) -> Iterator[Code]:
    """Compiled anew: numba keeps no code to look at with what it keeps on disk."""
    again = njit(**{k: v for k, v in function.targetoptions.items() if k != "nopython"})(function.py_func)
    for signature in function.signatures:
        again.compile(signature)
        language = parts(again.inspect_llvm(signature), r'define .*@"?([\w$]+)')
        machine = parts(again.inspect_asm(signature), r"([\w$]+):")
        assert language and set(language) <= set(machine)
        for symbol, lines in language.items():
            yield Code(function.py_func.__name__, lines, machine[symbol])


def parts(text: str, start: str) -> dict[str, list[str]]:
    """The lines of each compiled function, by its symbol; a line that matches `start` begins one, or something else."""
    out: dict[str, list[str]] = {}
    symbol = ""
    for line in text.splitlines():
        if m := re.match(start, line):
            symbol = m[1]
        if own(symbol):
            out.setdefault(symbol, []).append(line)
    return out


def own(symbol: str) -> bool:
    """Whether it is a compiled function; else it is one of its wrappers, or of numba's runtime."""
    return symbol.startswith("_ZN") and not symbol.startswith(("_ZN7cpython", "_ZN08NumbaEnv"))


def kernels() -> dict[str, Compiled]:
    """All compiled functions of the protocols that protect; the published ones are for comparison."""
    out = {}
    for module in pkgutil.walk_packages(PPIRLogic.secure.__path__, "PPIRLogic.secure."):
        if ".published" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Compiled) and value.py_func.__module__ == module.name:
                out[f"{module.name}.{name}"] = value
    return {**out, "sums by control point": bspline_basis._gather}


@pytest.fixture
def in_use(exchange: Callable[..., Any]) -> dict[str, Compiled]:
    """The kernels, after an evaluation of every kind."""
    image = RNG.integers(-2048, 2049, CHUNK).astype(np.int32)
    columns = RNG.integers(-2000, 2001, (3, CHUNK)).astype(np.int32)
    terms = [Term(k, "J", "gradient") for k in range(3)]
    packed = [Term(k, "J", "gradient", outputs=4) for k in range(3)]
    for protocol in ("clear", "fhe"):
        opened = exchange(protocol, {"J": image})
        opened.evaluate(columns, terms)
        opened.evaluate(columns, packed, 1)
    geometry = Geometry((20, 18, 8), (1.0, 1.2, 2.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    points = control_point_map_of(geometry, level_geometry(geometry, 1), 1, 2.0, 9.0, 1, 2)
    values, gradient = (RNG.integers(-2000, 2001, (n, len(points.samples))).astype(np.int32) for n in (1, 2))
    exchange("fhe", {"J": values[0]}, control_points=points).evaluate(
        gradient, [Term(k, "J", "gradient", points.count, per_control_point=True) for k in range(2)]
    )
    Accumulator(1, 2).add(columns[:1].repeat(8, 1).reshape(1, -1)[:, : 8 * CHUNK], [0],
                          np.zeros((3, len(PRIMES), 8 * CHUNK), np.uint32), [0])  # fmt: skip
    return kernels()


needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="reads the machine code of x86-64 alone"
)


@needs_x86
def test_no_kernel_of_the_protocols_divides_or_branches_by_what_it_reads(
    in_use: dict[str, Compiled], record: Record
) -> None:
    used = [function for function in in_use.values() if function.signatures]
    inside = {
        name for function in used for name in function.py_func.__code__.co_names
    }  # looked at within their callers
    assert not {name for name, f in in_use.items() if f not in used and f.py_func.__name__ not in inside}
    assert {"accumulate", "lift", "_gather"} <= {function.__name__ for function in used}
    looked_at = [code for function in used for code in codes(function)]
    found = {c.name: c.found() - ({"branch"} if c.name in REJECTION else set()) for c in looked_at}
    found = {name: what for name, what in found.items() if what}
    control = {c.name: c.found() for f in (_divides, _branches, _looks_up) for c in codes(compiled_now(f))}
    record(
        "time: machine code of the kernels that see secrets",
        "; ".join(f"control {name[1:].replace('_', ' ')}: {', '.join(sorted(w))}" for name, w in control.items()),
        f"{len(looked_at)} compiled functions: no division, branch or address by a value that is read",
    )
    assert not found


@needs_x86
def test_which_samples_are_chosen_does_not_show_in_a_division() -> None:
    """Under `fhe` party 1 keeps to itself which blocks it samples; where a sample lies was once found by dividing."""
    grid = Geometry((24, 20, 16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    image = MovingImage(Volume(RNG.random(grid.array_shape).astype(np.float32), grid, "moving"), (1, 1, 1))
    start = LinearTransform.identity("translation", grid.centre())
    samples = np.arange(CHUNK // 2, dtype=np.int32)
    source = linear.LinearColumns(
        image, grid, samples, np.ones(samples.size, bool), np.arange(1), start, 30.0,
        linear.widest_scales(image, grid, start, 30.0),
    )  # fmt: skip
    source.prepare(1)
    source.block(0, 0, np.zeros((source.columns, 8 * CHUNK), np.int32))
    found = [code for code in codes(linear.fill) if code.name == "fill"]
    assert found and not any(code.divides() for code in found)


def compiled_now(function: Callable[..., Any]) -> Compiled:
    out = compiled(function)
    out(np.arange(80, dtype=np.uint32), 7)
    return out


def _divides(x: Any, modulus: int) -> None:
    for i in range(x.size):
        x[i] = x[i] % modulus


def _branches(x: Any, modulus: int) -> None:
    for i in range(x.size):
        if x[i] > 3:
            x[: x[i] & 1] = np.sqrt(x[i])


def _looks_up(x: Any, modulus: int) -> None:
    for i in range(x.size):
        x[i] = x[x[i] & 7]


def _takes_the_remainder_by_a_constant(x: Any, modulus: int) -> None:
    for i in range(x.size):
        x[i] = x[i] % 3


def _divides_in_floats(x: Any, modulus: int) -> None:
    for i in range(x.size):
        x[i] = np.uint32(1.0 / (x[i] + 1.0))


@needs_x86
@pytest.mark.parametrize(
    ("function", "due"),
    [
        (_divides, {"division"}),
        (_branches, {"branch"}),
        (_looks_up, {"address"}),
        (_divides_in_floats, {"division"}),
        (_takes_the_remainder_by_a_constant, set()),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_what_it_should_notice_is_noticed(function: Callable[..., Any], due: set[str]) -> None:
    """A division by a constant is a multiplication by the time it is machine code."""
    (code,) = codes(compiled_now(function))
    assert due <= code.found() if due else not code.found()


@pytest.mark.parametrize(
    ("machine", "due"),
    [
        (["movl (%rsi,%r8,4), %eax", "cmpl $3, %eax", "jb .LBB0_1"], True),
        (["movl 8(%rdi), %r14d", "imulq %r14, %r15", "sarq $63, %r15", "js .LBB0_1"], True),
        (["cmpl $3, (%rdi)", "jb .LBB0_1"], True),
        (["movl (%rsi), %eax", "movl %eax, (%rdi)", "incq %r8", "jne .LBB0_1"], False),
        (["movq 24(%rsp), %rax", "cmpq %rax, %rcx", "jae .LBB0_1"], False),
    ],
    ids=["compared", "computed", "compared where it lies", "counted", "from the stack"],
)
def test_a_jump_that_the_last_step_of_the_compiler_puts_in_is_noticed(machine: list[str], due: bool) -> None:
    code = Code("", ["define i32 @f()"], ["\t" + line.replace(" ", "\t", 1) for line in machine])
    assert code.found() == ({"branch"} if due else set())


def test_the_forms_without_a_division_are_exact_at_their_limits() -> None:
    for prime in (*PRIMES, 2**46 - 21):
        edge = [0, 1, prime - 1, prime, prime + 1, 2 * prime, 2**62, 2**63 - 1, -1, -prime, -prime - 1, -(2**63) + 1]
        values = np.array([v for v in edge if abs(v) // prime < 2**50], np.int64)
        assert ring.modulo(values, prime).tolist() == [int(v) % prime for v in values]
    for p in PRIMES:
        sums = np.array([0, p - 1, p, 2 * p - 1], np.uint32)
        assert ring.sum_below(sums, np.uint32(p)).tolist() == [int(v) % p for v in sums]
