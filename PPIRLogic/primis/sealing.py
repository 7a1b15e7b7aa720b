"""Seal an image, open one, seal it anew: what an owner and a recipient do with .ppis files. See `grants` for grants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from PPIRLogic.arguments import as_path, check_callable, check_kinds
from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path, split_extension
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.identity import default_home
from PPIRLogic.primis import cards, grants
from PPIRLogic.primis.extras import plain_grid, split_extras
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.keys import (
    KEY_BYTES,
    LevelKey,
    level_number,
    load_keys,
    load_or_make_keys,
    new_image_id,
    top_key,
)
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.pixels import Pixels, pixels_of
from PPIRLogic.primis.sealed_file import (
    SUFFIX,
    Header,
    SealedFile,
    key_fits,
    open_codes,
    parse_file,
    parse_header,
    read_file,
    read_header,
    seal_codes,
)
from PPIRLogic.primis.unsealed import Unsealed
from PPIRLogic.primis.whole_files import AnyPath, read_small, refuse_existing, write_whole
from PPIRLogic.progress import CancelToken

if TYPE_CHECKING:
    from PPIRLogic.disclosure.chain import Chain

Sealed = AnyPath | bytes | SealedFile
EXACT = len(LEVELS)


def seal(
    image: Volume | NDArray[Any] | AnyPath,
    output: AnyPath,
    *,
    home: AnyPath | None = None,
    levels: str | int = EXACT,
    pad: bool = True,
    quality: float = 1.0,
    keep_tags: Sequence[str] = (),
    rounded: bool = False,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[float], None] = lambda part: None,
    cancel: CancelToken | None = None,
) -> SealedFile:
    """Seal an image into `output` (.ppis): one code a level, each under a key of its own, made from this site's master.

    image: a file or DICOM series, a Volume, or an array (uint8, uint16, int16). home: the site's folder (made on first
    use). levels: the highest level to seal. pad: fill codes up to class lengths; their own lengths tell of the content.
    quality: how much finer the lossy levels are than usual, 1/16 to 15. keep_tags: DICOM tags to seal inside the
    overview; none by default. rounded: take fractions to whole numbers (there is no exact level then). note: is told
    what the owner should know. progress: is told the part that is done, 0 to 1.
    Errors: InputError (an image that cannot be sealed; a file that exists), OutputError (nothing is written then),
    MissingDependencyError, IdentityError, Cancelled.

    >>> import tempfile
    >>> import numpy as np
    >>> image = (np.indices((64, 48)).sum(0) * 2).astype(np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sealed = seal(image, f"{folder}/image.ppis", home=folder)
    ...     found = unseal(f"{folder}/image.ppis", home=folder)
    >>> sealed.header.shape, found.level, bool((found.pixels == image).all())
    ((64, 48), 'exact', True)
    """
    switches = {"pad": pad, "rounded": rounded, "overwrite": overwrite}
    check_kinds("seal", switches, dict.fromkeys(switches, (bool,)))
    check_kinds("seal", {"quality": quality}, {"quality": (int, float)})
    check_callable("seal", note=note, progress=progress)
    target, folder, count = _sealed_path(output), _home(home), level_number(levels)
    refuse_existing(target, overwrite)
    found = pixels_of(image, keep_tags=keep_tags, rounded=rounded)
    for text in found.notes:
        note(text)
    count = min(count, EXACT - 1) if found.extras.rounded else count
    sealed = _sealed(found, count, folder, pad, quality, progress, cancel)
    if cancel is not None:
        cancel.check()
    refuse_existing(target, overwrite)  # another command may have written it meanwhile
    write_whole(target, sealed.to_bytes())
    return sealed


def _sealed(
    image: Pixels, levels: int, home: Path, pad: bool, quality: float, progress: Callable[[float], None],
    cancel: CancelToken | None,
) -> SealedFile:  # fmt: skip
    from PPIRLogic.primis.codec import encode

    ring = load_or_make_keys(home)
    coded = encode(image.values, levels, quality=quality, progress=progress, cancel=cancel)
    image_id = new_image_id()
    payloads = [image.extras.pack() + coded.codes[0], *coded.codes[1:]]
    key = top_key(ring.image_keys(image_id)[0], image_id)
    return seal_codes(payloads, key, coded.model, coded.shape, coded.dtype, pad=pad)


def unseal(
    file: Sealed,
    *,
    home: AnyPath | None = None,
    grant: AnyPath | bytes | None = None,
    key: bytes | None = None,
    level: str | int | None = None,
    progress: Callable[[float], None] = lambda part: None,
    cancel: CancelToken | None = None,
) -> Unsealed:
    """Open a sealed image as far as a key goes.

    file: a path, the file's bytes, or a SealedFile. The key is this site's own (it sealed the image), that of `grant`
    (a path, or bytes), or `key` (the 32 bytes of a level or of the whole image). level: open no more than this.
    progress: is told the part that is done, 0 to 1.
    Errors: InputError (damaged or changed file or grant, no key of it, a level that the key does not open), TrustError
    (the grant's issuer is not trusted), MissingDependencyError, Cancelled.

    >>> unseal("chest.ppis", grant="b.ppig").level  # doctest: +SKIP
    'segmentation'
    >>> unseal("chest.ppis")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The sealed file 'chest.ppis' does not exist. Check the path.
    """
    what, sealed = _sealed_of(file)
    found = _key_for(sealed.header, _home(home), grant, key, what)
    wanted = min(found.level, len(sealed.header.codes)) if level is None else level_number(level)
    if wanted > len(sealed.header.codes):
        raise InputError(
            f"{what} holds the levels {', '.join(sealed.header.levels)}; {LEVELS[wanted - 1]} is not there."
        )
    if wanted > found.level:
        raise InputError(
            f"{what}: this key opens it up to {LEVELS[found.level - 1]}, not up to {LEVELS[wanted - 1]}. Ask its owner"
            " for a grant of that level."
        )
    payloads = open_codes(sealed, found.down_to(wanted), what)
    header = sealed.header
    extras, payloads[0] = split_extras(payloads[0], header.shape, what)
    from PPIRLogic.primis.codec import decode

    pixels = decode(payloads, header.shape, header.dtype, header.model, progress=progress, cancel=cancel)
    geometry = extras.geometry or plain_grid(header.shape)
    exact = wanted == EXACT and not extras.rounded
    return Unsealed(
        pixels, geometry, LEVELS[wanted - 1], exact, header.image_id.hex(), header.model, dict(extras.tags)
    )  # fmt: skip


def grant(
    file: Sealed,
    card: AnyPath | bytes,
    level: str | int,
    *,
    home: AnyPath | None = None,
    purpose: str,
    days: int = grants.DAYS,
    chain: Chain | None = None,
) -> bytes:
    """A grant (at most 400 bytes) of this site's sealed image up to a level, for the peer with this card.

    On record in this site's ledger before it is returned. card: a path, or bytes. purpose: for the recipient and the
    record. days: that it holds. chain: the site's records, where a service has them open. Errors: InputError (file,
    card, level, purpose or days unusable; the image is not this site's), TrustError (the card's site is not trusted),
    OutputError (the record cannot be written: then there is no grant).

    >>> import tempfile
    >>> import numpy as np
    >>> from PPIRLogic.network.trust import TrustStore
    >>> image = (np.indices((64, 48)).sum(0) * 2).astype(np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mine, theirs = Path(folder) / "mine", Path(folder) / "theirs"
    ...     sealed = seal(image, f"{folder}/image.ppis", home=mine)
    ...     card = cards.own_card(theirs)
    ...     _ = TrustStore(mine).add(cards.read_card(card).fingerprint, "Hospital B")
    ...     given = grant(sealed, card, "overview", home=mine, purpose="lung study")
    >>> len(given), grants.read_grant(given).purpose
    (255, 'lung study')
    """
    folder, number = _home(home), level_number(level)
    words = grants.check_purpose(purpose)
    what, sealed = _sealed_of(file)
    header = sealed.header
    if number > len(header.codes):
        raise InputError(f"{what} holds the levels {', '.join(header.levels)}; {LEVELS[number - 1]} is not there.")
    key = _own_key(header, folder, what)
    open_codes(sealed, key.down_to(1), what)  # authenticates the header, whose lengths go on record
    holder = cards.trusted_card(read_small(card, cards.MAX_CARD, "The card"), folder)
    made = grants.make_grant(key.down_to(number), holder, folder, purpose=words, days=days)
    bits = [header.bits(n) for n in range(1, number + 1)]
    expires = grants.read_grant(made).expires
    records = GrantRecords(folder, chain)
    records.granted(header.image_id.hex(), holder.fingerprint, bits, purpose=words, expires=expires)
    return made


def inspect(file: Sealed) -> Header:
    """What anybody can read of a sealed image, without keys: shape, type, model, id, and the length of each code.

    Nothing of it is authenticated without a key. InputError: a file that is damaged, or none.

    >>> inspect(b"something else")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The sealed file is no .ppis file: it begins as another. Fetch it again, ...
    """
    return _header_of(file)[1]


def has_key(file: Sealed, home: AnyPath | None = None) -> bool:
    """Whether this site can open the whole image: it sealed it, or has its keys from an escrow.

    InputError: a file that is damaged, or none.

    >>> has_key("chest.ppis", "/home/me/ppir")  # doctest: +SKIP
    True
    """
    return _found_key(_header_of(file)[1], _home(home)) is not None


def image_key(file: Sealed, level: str | int = EXACT, *, home: AnyPath | None = None) -> bytes:
    """The compact key: 32 bytes that open this site's image up to a level, for whoever has them. Prefer a grant: a key
    is bound to nobody. That it was taken out is on record before it is returned.

    InputError: the image is not this site's. OutputError: the record cannot be written.

    >>> len(image_key("chest.ppis", "overview"))  # doctest: +SKIP
    32
    """
    what, header = _header_of(file)
    number, folder = min(level_number(level), len(header.codes)), _home(home)
    key = _own_key(header, folder, what).down_to(number)
    GrantRecords(folder).taken(header.image_id.hex(), [header.bits(n) for n in range(1, number + 1)])
    return key.secret


def reseal(
    file: Sealed, output: AnyPath, *, home: AnyPath | None = None, level: str | int = EXACT, pad: bool = True,
    overwrite: bool = False,
) -> SealedFile:  # fmt: skip
    """Seal this site's image anew, under a new id and so under new keys: no former grant opens the new file.

    Who has opened the former file, or kept it, keeps what he has. level: the highest to seal. The pixels are not
    decoded: the new file opens to the same. Errors as `seal`, and InputError: the image is not this site's.

    >>> reseal("chest.ppis", "chest.ppis", overwrite=True)  # doctest: +SKIP
    """
    target, folder = _sealed_path(output), _home(home)
    refuse_existing(target, overwrite)
    what, sealed = _sealed_of(file)
    header = sealed.header
    key = _own_key(header, folder, what)
    payloads = open_codes(sealed, key.down_to(min(level_number(level), len(header.codes))), what)
    image_id = new_image_id()
    new = top_key(load_keys(folder).image_keys(image_id)[0], image_id)
    again = seal_codes(payloads, new, header.model, header.shape, header.dtype, pad=pad)
    GrantRecords(folder).resealed(image_id.hex(), header.image_id.hex())
    write_whole(target, again.to_bytes())
    return again


# ------------------------------------------------------------------------------------------------------------- keys


def _key_for(header: Header, home: Path, grant: AnyPath | bytes | None, key: bytes | None, what: str) -> LevelKey:
    """The key that was given, or this site's own; InputError where there is none that fits."""
    if grant is not None and key is not None:
        raise InputError("Give a grant or a key, not both.")
    if grant is not None:
        return grants.open_grant(read_small(grant, grants.MAX_GRANT, "The grant"), header.image_id, home)
    if key is None:
        return _own_key(header, home, what)
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InputError(f"A key has {KEY_BYTES} bytes.")
    levels = [LevelKey(key, number, header.image_id) for number in range(len(header.codes), 0, -1)]
    found = next((one for one in [top_key(key, header.image_id), *levels] if _opens(header, one)), None)
    if found is None:
        raise InputError(f"{what}: the key that was given is of another image, or of none. Ask its owner for a grant.")
    return found


def _opens(header: Header, key: LevelKey) -> bool:
    """Whether a key is that of its level in this file, or of the highest level that the file has."""
    return key_fits(header, key.down_to(min(key.level, len(header.codes))))


def _found_key(header: Header, home: Path) -> LevelKey | None:
    keys = (top_key(secret, header.image_id) for secret in load_keys(home).image_keys(header.image_id))
    return next((key for key in keys if _opens(header, key)), None)


def _own_key(header: Header, home: Path, what: str) -> LevelKey:
    found = _found_key(header, home)
    if found is None:
        raise InputError(
            f"{what} was not sealed by this site (home {shown_path(home)}), or its header was changed. Give a grant of"
            " its owner (--grant), the --home that sealed it, or the escrow file (ppir primis escrow --restore)."
        )
    return found


# ------------------------------------------------------------------------------------------------------------- files


def _home(home: AnyPath | None) -> Path:
    return default_home() if home is None else as_path(home, "The home")


def _sealed_path(output: AnyPath) -> Path:
    target = as_path(output, "The sealed file's path")
    split_extension(target, (SUFFIX,))
    return target


def _sealed_of(file: Sealed) -> tuple[str, SealedFile]:
    if isinstance(file, SealedFile):
        return "The sealed file", file
    if isinstance(file, bytes):
        return "The sealed file", parse_file(file)
    path = as_path(file, "The sealed file's path")
    return f"The sealed file '{shown_path(path)}'", read_file(path)


def _header_of(file: Sealed) -> tuple[str, Header]:
    if isinstance(file, SealedFile):
        return "The sealed file", file.header
    if isinstance(file, bytes):
        return "The sealed file", parse_header(file, len(file))
    path = as_path(file, "The sealed file's path")
    return f"The sealed file '{shown_path(path)}'", read_header(path)
