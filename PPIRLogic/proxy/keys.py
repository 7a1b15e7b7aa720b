"""The key of a site's deformations: 32 bytes in a file that only its owner reads, and what follows from it for a scan.

    key (32 bytes, in home/proxy/key)
      ├─ digest of a scan = HMAC(key, what is warped)   the same scan gets the same proxy, and nobody else can tell
      └─ draws of its field                             an AES-CTR stream of key, digest, grid, strength

Whoever has the key and the scan makes the proxy again; whoever has the key and the proxy alone does not: the digest is
of the scan.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from PPIRLogic.disclosure.record_file import locked_file, on_disk
from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.files import make_private_directory, read_bounded, shown_path, write_private_file

KEY_BYTES = 32
ID_CHARACTERS = 16
_FIRST_LINE = "PPIR proxy key 1"
_MAX_FILE = 1024  # bytes


def key_file(home: Path) -> Path:
    """Where a site's key of deformations lies."""
    return Path(home) / "proxy" / "key"


@dataclass(frozen=True)
class ProxyKey:
    """32 secret bytes from which the deformations of a site follow.

    >>> key = ProxyKey(bytes(32))
    >>> key.id, len(key.digest(b"scan"))
    ('a89e14d21a649570', 32)
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise InputError(f"A key of deformations has {KEY_BYTES} bytes, not {len(self.secret)}.")

    @property
    def id(self) -> str:
        """16 characters by which the key is known; they tell nothing of it."""
        return hmac.digest(self.secret, b"PPIR proxy 1 id", "sha256").hex()[:ID_CHARACTERS]

    def digest(self, *parts: bytes) -> bytes:
        """32 bytes that follow from key and scan; without the key nobody can tell of which scan."""
        code = hmac.new(self.secret, b"PPIR proxy 1 scan", "sha256")
        for part in parts:
            code.update(len(part).to_bytes(8, "big"))
            code.update(part)
        return code.digest()

    def to_bytes(self) -> bytes:
        """As the file holds it."""
        return f"{_FIRST_LINE}\n{self.secret.hex()}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ProxyKey:
        """ValueError for anything that `to_bytes` did not make."""
        secret = bytes.fromhex(data.decode("ascii").split("\n")[1]) if data.count(b"\n") == 2 else b""
        if len(secret) != KEY_BYTES or cls(secret).to_bytes() != data:
            raise ValueError
        return cls(secret)


def load_key(path: Path) -> ProxyKey:
    """The key in a file. IdentityError: missing, damaged, or others can read it.

    >>> load_key(Path("no-such-key"))
    Traceback (most recent call last):
    PPIRLogic.errors.IdentityError: There is no key of deformations at no-such-key: run `ppir proxy key`, ...
    """
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise IdentityError(
                f"The key of deformations {shown_path(path)} can be read by other users of this computer: run `chmod"
                f" 600 {shown_path(path)}`. If somebody may have copied it, make a new one (ppir proxy key --new)."
            )
        return ProxyKey.from_bytes(read_bounded(path, _MAX_FILE))
    except FileNotFoundError:
        raise IdentityError(
            f"There is no key of deformations at {shown_path(path)}: run `ppir proxy key`, or give --key. Without the"
            " key that made a proxy its answer cannot be brought back; the scan can be segmented again under a new one,"
            " and the server then has two proxies of it."
        ) from None
    except OSError as error:
        raise IdentityError(f"The key of deformations {shown_path(path)} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise IdentityError(
            f"The key of deformations {shown_path(path)} is damaged: put it back from a backup, or make a new one"
            " (ppir proxy key --new)."
        ) from None


def make_key(path: Path, *, new: bool = False) -> ProxyKey:
    """A new key in a file (0600). new: replace one that is there; it is kept beside it, as FILE.old.

    InputError: there is a key already. OutputError: it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     key = make_key(Path(folder) / "key")
    ...     load_key(Path(folder) / "key") == key, len(key.id)
    (True, 16)
    """
    on_disk(lambda: make_private_directory(path.parent), "no key is made")
    with locked_file(path.with_name(f".{path.name}.lock"), lambda: None):
        if path.exists():
            if not new:
                raise InputError(
                    f"There is a key of deformations at {shown_path(path)} already. Under a new one the same scan gets"
                    " another proxy, and a server that has both can link them; say --new if you mean it."
                )
            on_disk(lambda: write_private_file(path.with_name(f"{path.name}.old"), path.read_bytes()), "no key is made")
        key = ProxyKey(secrets.token_bytes(KEY_BYTES))
        on_disk(lambda: write_private_file(path, key.to_bytes()), "no key is made")
    return key


def load_or_make_key(home: Path) -> ProxyKey:
    """The site's key, made on first use. Errors: as `load_key` and `make_key`."""
    path = key_file(home)
    return load_key(path) if path.exists() else make_key(path)
