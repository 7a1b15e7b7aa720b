"""The deformation proxy: scans are segmented at another site, which sees only scans deformed under a secret key.

It lowers the risk of recognition; it is not encryption. Whose proxy it is can still be found, as often as the measured
rates say, and every proxy is in the ledger as the disclosure of a whole image.

    make_key(file)                    32 bytes from which a site's deformations follow
    make(scan, …)                     a scan's proxy: prepared, deformed; nothing is sent
    segment(scan, peer, consent, …)   a scan segmented at a site that gets its proxy
    serve(model, address, …)          segment proxies for trusted sites
    simulate(scan, …)                 both as real processes on this machine

A name is loaded when it is first used; all of it needs `pip install ppir[proxy]`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PPIRLogic.proxy.both_sites import simulate
    from PPIRLogic.proxy.deformation import STRENGTHS, Deformation
    from PPIRLogic.proxy.keys import ProxyKey, load_key, make_key
    from PPIRLogic.proxy.party1 import Consent, Proxy, SegmentingClient, make, segment, unmake
    from PPIRLogic.proxy.party2 import SegmentationService, serve
    from PPIRLogic.proxy.preparation import Prepared, prepare
    from PPIRLogic.proxy.rates import Rate, rates_for
    from PPIRLogic.proxy.segmentation_result import Segmentation
    from PPIRLogic.proxy.sent_records import SentRecords
    from PPIRLogic.proxy.spectrum import Spectrum

_HOMES = {
    "Consent": "party1",
    "Deformation": "deformation",
    "Prepared": "preparation",
    "Proxy": "party1",
    "ProxyKey": "keys",
    "Rate": "rates",
    "STRENGTHS": "deformation",
    "Segmentation": "segmentation_result",
    "SegmentationService": "party2",
    "SegmentingClient": "party1",
    "SentRecords": "sent_records",
    "Spectrum": "spectrum",
    "load_key": "keys",
    "make": "party1",
    "make_key": "keys",
    "prepare": "preparation",
    "rates_for": "rates",
    "segment": "party1",
    "serve": "party2",
    "simulate": "both_sites",
    "unmake": "party1",
}
__all__ = [
    "STRENGTHS",
    "Consent",
    "Deformation",
    "Prepared",
    "Proxy",
    "ProxyKey",
    "Rate",
    "Segmentation",
    "SegmentationService",
    "SegmentingClient",
    "SentRecords",
    "Spectrum",
    "load_key",
    "make",
    "make_key",
    "prepare",
    "rates_for",
    "segment",
    "serve",
    "simulate",
    "unmake",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'PPIRLogic.proxy' has no attribute '{name}'")
    value = getattr(import_module(f"PPIRLogic.proxy.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
