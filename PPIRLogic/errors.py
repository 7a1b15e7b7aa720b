"""The one family of errors that PPIRLogic raises on purpose.

Every message says what happened, where, and what to do about it; none carries image content, keys,
masks or shares. Anything else that escapes is a bug.

    PPIRError
    ├── InputError          an image, mask, transform or parameter that cannot be used
    │   └── OverlapError        fixed and moving grids (or what is left of them) do not overlap enough
    ├── OutputError         a result could not be written
    │   └── RecordError         this site's records were changed, cut or rolled back, or their key is lost
    ├── MissingDependencyError   an optional package is not installed
    ├── FixedPointError     a value would leave the exact fixed-point range; raised before anything is sent
    ├── IdentityError       this site's own key or certificate is missing, unreadable or expired
    ├── TrustError          the other side's certificate is not trusted, or it does not trust ours
    ├── PeerError           the other side cannot be reached, was lost or does not answer
    │   └── DealerError         the same, of the dealer of the mpc protocol
    ├── ProtocolError       the other side sent something that is not part of the protocol
    │   └── VerificationError   a request or an answer failed its check under fhe; says no more than that
    ├── RefusedError        the other side understood and said no
    │   ├── BusyError           it serves as many sessions as it can
    │   ├── PolicyError         its policy does not permit this image, loss, transform or protocol
    │   ├── BudgetError         its disclosure budget does not permit it
    │   └── VersionError        the two sides run versions that do not fit together
    ├── DoubtfulError       the run ended, and something speaks against its transform; what, the message says
    └── Cancelled           a person stopped the run
"""

from __future__ import annotations


class PPIRError(Exception):
    """Base of every deliberate error. `exit_code` is what the command line returns.

    >>> from PPIRLogic import read_volume
    >>> try:
    ...     read_volume("missing.nrrd")
    ... except PPIRError as error:
    ...     print(type(error).__name__, error.exit_code)
    InputError 2
    """

    exit_code = 1


class InputError(PPIRError):
    exit_code = 2


class OverlapError(InputError):
    pass


class OutputError(PPIRError):
    """Its text names files of this site: a peer hears `FOR_PEERS` alone."""

    exit_code = 3
    FOR_PEERS = (
        "The ledger of this site could not be written or read, and nothing is disclosed that is not on record. Its log"
        " has the reason."
    )


class RecordError(OutputError):
    """Its text names other peers' accounts, too."""

    exit_code = 14
    FOR_PEERS = "The records of this site are not as it wrote them, so nothing goes on until its owner has seen to it."


class MissingDependencyError(PPIRError):
    exit_code = 4


class FixedPointError(PPIRError):
    exit_code = 5


class IdentityError(PPIRError):
    exit_code = 6


class TrustError(PPIRError):
    exit_code = 7


class PeerError(PPIRError):
    exit_code = 8


class DealerError(PeerError):
    pass


class ProtocolError(PPIRError):
    exit_code = 9


class VerificationError(ProtocolError):
    """Carries nothing: why or where a check failed must not be told."""

    exit_code = 12

    def __init__(self, text: str = "") -> None:
        super().__init__("The check of an evaluation failed, and the session was ended.")


class RefusedError(PPIRError):
    exit_code = 10


class BusyError(RefusedError):
    pass


class PolicyError(RefusedError):
    pass


class BudgetError(RefusedError):
    exit_code = 11


class VersionError(RefusedError):
    pass


class DoubtfulError(PPIRError):
    exit_code = 13


class Cancelled(PPIRError):
    exit_code = 130
