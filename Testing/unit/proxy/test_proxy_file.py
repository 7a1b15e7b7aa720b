"""Proxies as files: the record beside them, and labels that come back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from heads_support import brain_of, head

from PPIRLogic.errors import InputError
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.party1 import Proxy, make
from PPIRLogic.proxy.proxy_file import read_record, record_file, record_of, unwarp_labels, write_proxy
from PPIRLogic.proxy.spectrum import Spectrum

KEY, PLAIN = ProxyKey(bytes(32)), Spectrum.plain()


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    scan, labels = head(1)
    return make(scan, strength="low", mask=brain_of(labels), key=KEY, spectrum=PLAIN)


def test_labels_come_back_onto_the_scan(proxy: Proxy) -> None:
    _, labels = head(1)
    ours = proxy.prepared.from_scan(labels)
    there = np.zeros_like(ours)
    for value in range(5):  # what a server would answer: the labels, deformed
        there[proxy.deformation.warp((255 * (ours == value)).astype(np.uint8)) > 127] = value
    back = unwarp_labels(proxy, there)
    assert back.shape == labels.shape and (back == labels)[labels > 0].mean() > 0.9


def test_labels_that_are_none(proxy: Proxy) -> None:
    with pytest.raises(InputError, match="of another scan"):
        unwarp_labels(proxy, np.zeros((3, 4, 5), np.uint8))
    for wrong in (0.5, -1.0, 256.0):
        with pytest.raises(InputError, match="whole numbers from 0 to 255"):
            unwarp_labels(proxy, np.full(proxy.array.shape, wrong, np.float32))


def test_the_record_stays_with_its_owner_and_names_the_key(proxy: Proxy, tmp_path: Path) -> None:
    path = tmp_path / "proxy.nrrd"
    record = record_of(proxy, KEY, PLAIN.digest)
    write_proxy(proxy, record, path)
    assert read_record(path) == record and record.proxy == proxy.id
    if os.name == "posix":
        assert stat.S_IMODE(record_file(path).stat().st_mode) == 0o600
    record.check(KEY, PLAIN.digest)
    with pytest.raises(InputError, match="nothing brings this answer back"):
        record.check(ProxyKey(bytes([1]) * 32), PLAIN.digest)
    with pytest.raises(InputError, match="the generator"):
        record.check(KEY, "ab" * 32)
    assert KEY.secret.hex() not in record_file(path).read_text()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"key": "a", "strength_mm": "x"}', "\x00"], ids=range(5))
def test_a_damaged_record(text: str, tmp_path: Path) -> None:
    record_file(tmp_path / "p.nrrd").write_text(text)
    with pytest.raises(InputError, match="is not the record of a proxy"):
        read_record(tmp_path / "p.nrrd")
    with pytest.raises(InputError, match="It lies where the proxy was made"):
        read_record(tmp_path / "other.nrrd")
