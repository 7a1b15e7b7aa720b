"""What the ring's transforms do in registers: several stages on a few vectors, and sums of products over lanes.

Written in LLVM's language through numba's intrinsics, since a compiler that meets the same steps as loops does not keep
a vector between two stages. The vectors have the width of the processor's registers: 512 bits with AVX-512, 256
otherwise, which LLVM itself takes apart where there is no AVX2. All of it are the same steps for all values: no branch
and no address depends on what is loaded, twiddle factors apart, whose places are public.

Vectors of residues are contiguous in the interleaved layout of `ring`: eight lanes of a coefficient, then of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from PPIRLogic.secure.layout import LANES


def _width() -> int:
    """32-bit values of a vector, by what numba compiles for."""
    told = getattr(numba.config, "CPU_FEATURES")  # noqa: B009 (made at run time)
    features = llvm.get_host_cpu_features().flatten() if told is None else told
    return 16 if "+avx512f" in features.split(",") else LANES


WIDE = _width()
COEFFICIENTS = 8  # of one step of `add_products`
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_LOW = 0xFFFFFFFF
intrinsic: Any = extending.intrinsic


class _Emitter:
    """Writes steps on vectors of `width` values of 32 bits, modulo p."""

    def __init__(self, builder: Any, width: int, prime: Any) -> None:
        self.b = builder
        self.words = ir.VectorType(_WORD, width)
        self.longs = ir.VectorType(_LONG, width // 2)
        self.p = self.repeat(prime, self.words)
        self.p2 = self.b.add(self.p, self.p)

    def repeat(self, value: Any, kind: Any) -> Any:
        """A vector of one value."""
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.b.insert_element(undefined, value, _WORD(0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_WORD, kind.count), [0] * kind.count))

    def long(self, value: int) -> Any:
        return ir.Constant(self.longs, [value] * self.longs.count)

    def load(self, data: Any, index: Any, kind: Any = None) -> Any:
        kind = kind or self.words
        value = self.b.load(self.b.bitcast(self.b.gep(data, [index]), kind.as_pointer()))
        value.align = 4
        return value

    def store(self, value: Any, data: Any, index: Any) -> None:
        self.b.store(value, self.b.bitcast(self.b.gep(data, [index]), value.type.as_pointer())).align = 4

    def smaller(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_unsigned("<", x, y), x, y)

    def halves(self, x: Any) -> tuple[Any, Any]:
        """The values at even and at odd places, as 64-bit values."""
        longs = self.b.bitcast(x, self.longs)
        return self.b.and_(longs, self.long(_LOW)), self.b.lshr(longs, self.long(32))

    def product(self, x: Any, factor: tuple[Any, Any]) -> Any:
        """x·w mod p, below 2p, by w and floor(w·2^32 / p) (Shoup)."""
        w, quotient = factor
        even, odd = (self.b.mul(half, quotient) for half in self.halves(x))
        above = self.b.or_(self.b.lshr(even, self.long(32)), self.b.and_(odd, self.long(_LOW << 32)))
        return self.b.sub(self.b.mul(x, w), self.b.mul(self.b.bitcast(above, self.words), self.p))

    def factor(self, tables: tuple[Any, Any], index: Any) -> tuple[Any, Any]:
        """A twiddle factor and its quotient, of both tables."""
        table, quotients = tables
        w = self.b.load(self.b.gep(table, [index]))
        quotient = self.b.zext(self.b.load(self.b.gep(quotients, [index])), _LONG)
        return self.repeat(w, self.words), self.repeat(quotient, self.longs)

    def butterfly(self, u: Any, v: Any, factor: tuple[Any, Any]) -> tuple[Any, Any]:
        """(u + v·w, u − v·w), below 4p, for values below 4p."""
        u = self.smaller(u, self.b.sub(u, self.p2))
        r = self.product(v, factor)
        return self.b.add(u, r), self.b.add(self.b.sub(u, r), self.p2)

    def inverse_butterfly(self, u: Any, v: Any, factor: tuple[Any, Any]) -> tuple[Any, Any]:
        """(u + v, (u − v)·w), below 2p, for values below 2p."""
        s = self.b.add(u, v)
        return self.smaller(s, self.b.sub(s, self.p2)), self.product(self.b.add(self.b.sub(u, v), self.p2), factor)

    def reduced(self, x: Any) -> Any:
        """From below 4p to below p."""
        x = self.smaller(x, self.b.sub(x, self.p2))
        return self.smaller(x, self.b.sub(x, self.p))

    def neighbours_added(self, x: Any, y: Any) -> Any:
        """Sums of two neighbours each, of x and then of y."""
        count = self.longs.count
        places = (ir.Constant(ir.VectorType(_WORD, count), list(range(first, 2 * count, 2))) for first in (0, 1))
        return self.b.add(*(self.b.shuffle_vector(x, y, at) for at in places))


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, array).data


def _stages(stages: int, width: int, steps: Callable[..., list[Any]], lifts: bool = False) -> Any:
    """An intrinsic (source, x, base, stride, table, quotients, block, prime): `stages` stages of `block` in registers.

    It takes 2^stages vectors at base, base + stride, … of the source, and stores them in the same places of x.
    steps: what is done with them; lifts: the source holds signed integers, |v| < p.
    """

    @intrinsic
    def run(
        _: Any, source: Any, x: Any, base: Any, stride: Any, table: Any, quotients: Any, block: Any, prime: Any
    ) -> Any:
        signature = types.void(source, x, types.intp, types.intp, table, quotients, types.intp, types.uint32)

        def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            source_, x_, base_, stride_, table_, quotients_, block_, prime_ = arguments
            e = _Emitter(builder, width, prime_)
            start, out = _data(context, builder, source, source_), _data(context, builder, x, x_)
            factors = _data(context, builder, table, table_), _data(context, builder, quotients, quotients_)
            places = [builder.add(base_, builder.mul(stride_, _LONG(i))) for i in range(1 << stages)]
            values = [e.load(start, at) for at in places]
            if lifts:
                sign = ir.Constant(e.words, [31] * width)
                values = [builder.add(v, builder.and_(e.p, builder.ashr(v, sign))) for v in values]
            values = steps(e, values, stages, block_, factors)
            for value, at in zip(values, places, strict=True):
                e.store(value, out, at)
            return context.get_dummy_value()

        return signature, emit

    return run


def _through(
    e: _Emitter, values: list[Any], order: range, block: Any, factors: tuple[Any, Any], butterfly: Any
) -> None:
    """In place: these stages of a block."""
    for stage in order:
        half = len(values) >> (stage + 1)
        for part in range(1 << stage):
            factor = e.factor(factors, e.b.add(e.b.shl(block, _LONG(stage)), _LONG(part)))
            for a in range(2 * part * half, (2 * part + 1) * half):
                values[a], values[a + half] = butterfly(values[a], values[a + half], factor)


def _forward(e: _Emitter, values: list[Any], stages: int, block: Any, factors: tuple[Any, Any]) -> list[Any]:
    _through(e, values, range(stages), block, factors, e.butterfly)
    return values


def _forward_to_the_end(e: _Emitter, values: list[Any], stages: int, block: Any, factors: tuple[Any, Any]) -> list[Any]:
    return [e.reduced(v) for v in _forward(e, values, stages, block, factors)]


def _inverse(e: _Emitter, values: list[Any], stages: int, block: Any, factors: tuple[Any, Any]) -> list[Any]:
    _through(e, values, range(stages)[::-1], block, factors, e.inverse_butterfly)
    return values


def _inverse_to_the_end(e: _Emitter, values: list[Any], stages: int, block: Any, factors: tuple[Any, Any]) -> list[Any]:
    each = e.factor(factors, _LONG(0))  # 1/n
    return [e.reduced(e.product(v, each)) for v in _inverse(e, values, stages, block, factors)]


forward_8, forward_4 = _stages(3, WIDE, _forward), _stages(2, WIDE, _forward)
lifted_8 = _stages(3, WIDE, _forward, lifts=True)
last_8, last_4 = _stages(3, LANES, _forward_to_the_end), _stages(2, LANES, _forward_to_the_end)
first_inverse_8, first_inverse_4 = _stages(3, LANES, _inverse), _stages(2, LANES, _inverse)
inverse_8, inverse_4 = _stages(3, WIDE, _inverse), _stages(2, WIDE, _inverse)
last_inverse_8 = _stages(3, WIDE, _inverse_to_the_end)


@intrinsic
def add_products(_: Any, x: Any, c: Any, total: Any, first: Any, prime: Any, negative_inverse: Any) -> Any:
    """total[first … first + 8] += Σ over the lanes of x·c, over 2^32, mod p, for eight coefficients; below 2^32 more.

    x, c: residues below p < 2^30 (n·8,); total: uint64 (n,), not reduced. By Montgomery's reduction: the low half m of
    s·(−1/p) makes s + m·p a multiple of 2^32. negative_inverse: −1/p mod 2^32.
    """
    signature = types.void(x, c, total, types.intp, types.uint32, types.uint32)

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        x_, c_, total_, first_, prime_, inverse_ = arguments
        e = _Emitter(builder, WIDE, prime_)
        left, right = _data(context, builder, x, x_), _data(context, builder, c, c_)
        sums = []
        for part in range(COEFFICIENTS * LANES // WIDE):
            at = builder.add(builder.mul(first_, _LONG(LANES)), _LONG(part * WIDE))
            pairs = zip(e.halves(e.load(left, at)), e.halves(e.load(right, at)), strict=True)
            sums.append(builder.add(*(builder.mul(a, b) for a, b in pairs)))
        for _ in range(2):  # four values of a coefficient
            sums = [e.neighbours_added(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        p, inverse = (e.repeat(builder.zext(v, _LONG), e.longs) for v in (prime_, inverse_))
        out = _data(context, builder, total, total_)
        for i, s in enumerate(sums):
            m = builder.and_(builder.mul(builder.and_(s, e.long(_LOW)), inverse), e.long(_LOW))
            value = builder.lshr(builder.add(s, builder.mul(m, p)), e.long(32))
            at = builder.add(first_, _LONG(i * e.longs.count))
            e.store(builder.add(e.load(out, at, e.longs), value), out, at)
        return context.get_dummy_value()

    return signature, emit
