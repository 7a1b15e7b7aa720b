"""Whatever the wire may bring."""

from __future__ import annotations

from hypothesis import strategies as st

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=200), st.binary()
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner), max_leaves=10
)
