"""All attacks on one set of images: on codes with decoys, and on sealed files, with how sure each figure is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from PPIRLogic.arrays import AnyArray
from PPIRLogic.errors import InputError, PPIRError
from PPIRLogic.local_processes import make_sites
from PPIRLogic.primis import cards, grants
from PPIRLogic.primis.ambiguated import first, hide, in_both, keep, values
from PPIRLogic.primis.attacks import linking, tampering
from PPIRLogic.primis.attacks.decoys import DecoyClassifier, SupervisedDecoder, expected, project
from PPIRLogic.primis.attacks.public_views import (
    Published,
    bytes_seen,
    lengths_seen,
    new_key,
    payloads_of,
    publish_all,
    seal_again,
)
from PPIRLogic.primis.attacks.regression import Regression
from PPIRLogic.primis.code_maps import reconstruct
from PPIRLogic.primis.evidence import Interval, area_under_curve, need, over_patients
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.study import Study
from PPIRLogic.primis.use import Classifier, smaller
from PPIRLogic.progress import CancelToken

MIN_IMAGES = 12  # images on either side
_COARSE = 20  # pixels of the images that are compared to link them


@dataclass(frozen=True)
class Effort:
    """How much an attacker spends. train: images that attacks on decoys learn from; judged: those on which they are
    judged; trees: of the classifier; steps: of the network; changes: tampered files."""

    train: int = 60
    judged: int = 80
    trees: int = 150
    steps: int = 500
    changes: int = 20_000
    seed: int = 0


QUICK = Effort(train=10, judged=20, trees=40, steps=15)


@dataclass(frozen=True)
class Finding:
    """What one attack got. holds: whether sealed files gave nothing beyond chance; None where that is not judged."""

    attack: str
    ambiguated: str
    sealed: str
    holds: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ground:
    """The images of training patients, whose content the attacker has, and those of others, which he wants."""

    train: list[Published]
    test: list[Published]
    train_study: Study
    test_study: Study
    effort: Effort
    cancel: CancelToken
    pictures: dict[str, AnyArray] = field(default_factory=dict)

    @cached_property
    def mean(self) -> AnyArray:
        """The mean image of the training patients: what who knows nothing can say."""
        return np.asarray(self.train_study.images.mean(0))

    @cached_property
    def few(self) -> list[Published]:
        return self.train[: self.effort.train]

    @cached_property
    def judged(self) -> list[Published]:
        return self.test[: self.effort.judged]

    @cached_property
    def classifier(self) -> DecoyClassifier:
        """Of decoys, trained."""
        return DecoyClassifier(self.effort.seed, self.effort.trees).fit(
            [p.public for p in self.few], [p.true for p in self.few]
        )

    @cached_property
    def probabilities(self) -> list[AnyArray]:
        """How likely each entry of each judged image is true."""
        return [self.classifier.probabilities(p.public) for p in self.checked(self.judged)]

    def checked(self, items: Sequence[Published]) -> Iterator[Published]:
        for item in items:
            self.cancel.check()
            yield item

    def quality(self, images: Sequence[AnyArray]) -> Interval:
        """Mean PSNR in dB against the originals, in their order."""
        values = np.array([psnr(i, p.image) for i, p in zip(images, self.test, strict=False)])
        return over_patients(self.test_study.patients[: len(values)], lambda k: float(values[k].mean()))

    def gain(self, images: Sequence[AnyArray]) -> Interval:
        """The same, less what the mean image has."""
        pairs = zip(images, self.test, strict=False)
        values = np.array([psnr(i, p.image) - psnr(self.mean, p.image) for i, p in pairs])
        return over_patients(self.test_study.patients[: len(values)], lambda k: float(values[k].mean()))


def psnr(image: AnyArray, truth: AnyArray) -> float:
    """In dB, of 255 grey values; at most 99.

    >>> round(psnr(np.full((2, 2), 10), np.full((2, 2), 20)), 2)
    28.13
    """
    error = float(np.mean(np.square(image.astype(np.float64) - truth)))
    return 99.0 if error < 1e-5 else min(99.0, 10 * float(np.log10(255**2 / error)))


def attack(
    study: Study,
    *,
    effort: Effort | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, of: None,
    found: Callable[[Finding], None] = lambda finding: None,
    cancel: CancelToken | None = None,
) -> tuple[list[Finding], dict[str, AnyArray]]:
    """Every attack on the images of a study; the findings, and the pictures of one image by name.

    Training and judged patients are apart. progress(stage, done, of); found(finding) as each comes.
    Errors: InputError for too few images, MissingDependencyError without the extra `train`, Cancelled.
    """
    train, test = study.split()
    if min(len(train), len(test)) < MIN_IMAGES:
        raise InputError(
            f"There are {len(train)} images to train an attacker and {len(test)} to judge him, patients apart:"
            f" {MIN_IMAGES} of each are needed. Give a folder with more patients."
        )
    for module in ("sklearn.ensemble", "skimage.restoration", "torch"):
        need(module)  # before anything long begins
    token, effort = cancel or CancelToken(), effort or Effort()
    done = 0

    def count(_: int, __: int) -> None:
        nonlocal done
        done += 1
        progress("sealing", done, len(study))

    published = [publish_all(part, count, token) for part in (train, test)]
    ground = Ground(published[0], published[1], train, test, effort, token)
    findings: list[Finding] = []
    for number, run in enumerate(ATTACKS, 1):
        token.check()
        progress(run.__name__.strip("_"), number, len(ATTACKS))
        for finding in run(ground):
            findings.append(finding)
            found(finding)
    one = ground.test[0]
    shown = {"original": one.image, "with key": reconstruct(one.maps), "sealed, public": _as_picture(one)}
    return findings, {**shown, **ground.pictures}


def _as_picture(item: Published) -> AnyArray:
    """The bytes of a sealed file, as many as fill a square."""
    data = np.frombuffer(b"".join(item.sealed.codes), np.uint8)
    side = int(len(data) ** 0.5)
    return data[: side * side].reshape(side, side)


# ------------------------------------------------------------------------------------------------- what the image is


def _decoded_as_it_is(g: Ground) -> Iterator[Finding]:
    images = [reconstruct(p.public) for p in g.judged]
    g.pictures["ambiguated, as it is"] = images[0]
    mean = g.quality([g.mean] * len(images))
    key = g.quality([reconstruct(p.maps) for p in g.judged])
    text = f"{g.quality(images)} dB; with the key {key}, mean image of other patients {mean}"
    data = {"psnr": g.quality(images).value, "key": key.value, "mean": mean.value}
    yield Finding("no attack: the public part decoded as it is", text, "nothing to decode", None, data)


def _decoy_classifier(g: Ground) -> Iterator[Finding]:
    true, guessed = [p.true for p in g.judged], g.probabilities
    area = area_under_curve(np.concatenate(guessed), np.concatenate(true))
    images = [expected(p.public, w) for p, w in zip(g.judged, guessed, strict=True)]
    g.pictures["ambiguated, classifier"] = images[0]
    text = f"AUC {area:.2f}; the image at {g.quality(images)} dB"
    data = {"auc": area, "psnr": g.quality(images).value, "gain": g.gain(images).value}
    yield Finding("decoy classifier (boosting on value, index, neighbours)", text, "there are no entries", None, data)


def _projection(g: Ground) -> Iterator[Finding]:
    some = g.judged[:20]
    weights = [project(p.public) for p in g.checked(some)]
    area = float(np.mean([area_under_curve(w, p.true) for w, p in zip(weights, some, strict=True)]))
    images = [expected(p.public, w) for p, w in zip(some, weights, strict=True)]
    text = f"AUC {area:.2f}; the image at {g.quality(images)} dB, without any other image"
    data = {"auc": area, "psnr": g.quality(images).value, "gain": g.gain(images).value}
    yield Finding("unsupervised projection (decode, smooth, code again)", text, "there are no entries", None, data)


def _supervised_decoder(g: Ground) -> Iterator[Finding]:
    decoder = SupervisedDecoder(g.classifier)
    decoder.fit(
        [p.public for p in g.few], g.train_study.images[: len(g.few)], steps=g.effort.steps, seed=g.effort.seed,
        cancel=g.cancel,
    )  # fmt: skip
    images = [decoder.decode(p.public) for p in g.checked(g.judged)]
    g.pictures["ambiguated, supervised"] = images[0]
    guesses = _from(g, np.array([bytes_seen(p.sealed) for p in g.train]), [bytes_seen(p.sealed) for p in g.test])
    g.pictures["sealed, supervised"] = guesses[0]
    gain = g.gain(guesses)
    ours = f"{g.quality(guesses)} dB: {_of_mean(gain)}"
    text = f"{g.quality(images)} dB"
    data = {"psnr": g.quality(images).value, "sealed_psnr": g.quality(guesses).value, "sealed_gain": gain.value}
    data["gain"] = g.gain(images).value
    yield Finding("supervised decoder on the public part", text, ours, gain.nothing, data)
    if len(set(g.test_study.labels[: len(images)])) > 1:
        yield _classified(g, images, guesses)


def _from(g: Ground, given: AnyArray, asked: Sequence[AnyArray]) -> list[AnyArray]:
    """Images foretold from anything public, by a regression on the training patients."""
    g.cancel.check()
    model = Regression().fit(given, g.train_study.images, g.train_study.patients)
    return [np.clip(i, 0, 255) for i in model.predict(np.array(asked))]


def _of_mean(gain: Interval) -> str:
    return f"{gain.value:+.2f} dB ({gain.low:+.2f} to {gain.high:+.2f}) against the mean image"


def _classified(g: Ground, images: list[AnyArray], guesses: list[AnyArray]) -> Finding:
    """The label, read from what the attacks gave by a classifier of originals."""
    kind = _positive(g)
    model = Classifier().fit(g.train_study.images, np.array(g.train_study.labels) == kind)

    def area(shown: Sequence[AnyArray]) -> Interval:
        scores = model.scores(np.rint(np.array(shown)).astype(np.uint8))
        wanted = np.array(g.test_study.labels[: len(shown)]) == kind
        patients = g.test_study.patients[: len(shown)]
        return over_patients(patients, lambda k: area_under_curve(scores[k], wanted[k]))

    own, theirs, ours = area([p.image for p in g.test]), area(images), area(guesses)
    text = f"AUC {theirs}; of originals {own}"
    data = {"auc": theirs.value, "sealed_auc": ours.value, "original_auc": own.value}
    return Finding(
        f"{kind}, classified on what the supervised decoder gave", text, f"AUC {ours}", ours.holds(0.5), data
    )


def _positive(g: Ground) -> str:
    """The rarer of the labels that are there."""
    names, counts = np.unique(g.train_study.labels, return_counts=True)
    return str(names[int(np.argmin(counts))])


# --------------------------------------------------------------------------------------------------- what lengths tell


def _lengths(g: Ground) -> Iterator[Finding]:
    every, cut = [*g.train, *g.test], len(g.train)
    filled = np.array([[c.length for c in p.sealed.header.codes] for p in every])
    tables = {"filled": lengths_seen(filled), "loose": lengths_seen(np.array([p.loose for p in every]))}
    patients = [*g.train_study.patients, *g.test_study.patients]
    gains = {n: g.gain(_from(g, t[:cut], list(t[cut:]))) for n, t in tables.items()}
    kinds = len(np.unique(filled, axis=0))
    cost = float(filled.sum() / np.array([p.loose for p in every]).sum())
    data: dict[str, Any] = {"classes": kinds, "cost": cost}
    data |= {f"{n}_gain": v.value for n, v in gains.items()}
    yield Finding(
        "lengths of the codes alone: the image", f"not filled up: {_of_mean(gains['loose'])}",
        f"{_of_mean(gains['filled'])}; {kinds} combinations of lengths among {len(every)} files, {cost:.2f} times as"
        " long", gains["filled"].nothing, data,
    )  # fmt: skip
    linked = {n: linking.link(patients, linking.by_distance(t)) for n, t in tables.items()}
    if linked["loose"] is not None and linked["filled"] is not None:
        data = {n: v.value for n, v in linked.items() if v is not None}
        yield Finding(
            "lengths of the codes alone: two files of one patient", f"not filled up: AUC {linked['loose']}",
            f"AUC {linked['filled']}", linked["filled"].holds(0.5), data,
        )  # fmt: skip
    if len(set(g.test_study.labels)) > 1:
        areas = {n: _label_from(g, t[:cut], t[cut:]) for n, t in tables.items()}
        yield Finding(
            f"lengths of the codes alone: {_positive(g)}", f"not filled up: AUC {areas['loose']}",
            f"AUC {areas['filled']}", areas["filled"].holds(0.5), {n: v.value for n, v in areas.items()},
        )  # fmt: skip


def _label_from(g: Ground, given: AnyArray, asked: AnyArray) -> Interval:
    kind = _positive(g)
    wanted = (np.array(g.train_study.labels) == kind).astype(float)
    scores = Regression().fit(given, wanted[:, None], g.train_study.patients).predict(asked)[:, 0]
    truth = np.array(g.test_study.labels) == kind
    return over_patients(g.test_study.patients, lambda k: area_under_curve(scores[k], truth[k]))


# ------------------------------------------------------------------------------------------------------- whose it is


def _linked(g: Ground) -> Iterator[Finding]:
    every = [*g.train, *g.test]
    patients = [*g.train_study.patients, *g.test_study.patients]
    seen = np.array([reconstruct(first(p.public, 1)) for p in g.checked(every)])
    rows = smaller(seen, _COARSE).reshape(len(every), -1)
    theirs = linking.link(patients, linking.by_correlation(rows))
    ours = linking.link(patients, linking.by_correlation(np.array([bytes_seen(p.sealed) for p in every])))
    if theirs is not None and ours is not None:
        yield Finding(
            "two files of one patient linked, by what is in them", f"AUC {theirs}", f"AUC {ours}", ours.holds(0.5),
            {"auc": theirs.value, "sealed_auc": ours.value},
        )  # fmt: skip


def _shared_twice(g: Ground) -> Iterator[Finding]:
    some = g.judged[:20]
    common = [in_both(p.public, hide(p.maps)[0]) for p in some]
    images = [reconstruct(c) for c in common]
    equal = linking.by_equal_bytes(
        [b"".join(s.codes) for p in some for s in (p.sealed, seal_again(p.coded, new_key()))]
    )
    share = float(np.mean([equal(2 * k, 2 * k + 1) for k in range(len(some))]))
    several = sum(len(b"".join(p.sealed.codes)) for p in some)
    noise = 4 * float(np.sqrt(1 / 256 / several))
    text = f"what both have in common: the image at {g.quality(images)} dB"
    yield Finding(
        "one image shared twice", text, f"{share:.2%} of the bytes are equal (chance {1 / 256:.2%})",
        abs(share - 1 / 256) < noise, {"psnr": g.quality(images).value, "equal": share, "noise": noise},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ keys and files


def _wrong_key(g: Ground) -> Iterator[Finding]:
    some = g.judged[:20]
    draw = np.random.default_rng(g.effort.seed)
    theirs = [reconstruct(keep(p.public, draw.permutation(p.true))) for p in some]
    forced = [tampering.forced(p.sealed, p.coded, 1) for p in g.checked(some)]
    shown = [g.mean if f is None else f for f in forced]
    gain, opened = g.gain(shown), _opens(some)
    read = sum(f is not None for f in forced)
    ours = f"{opened} of {len(some)} open; the check left out: {read} of {len(some)} decode to anything, "
    text = f"the image at {g.quality(theirs)} dB"
    yield Finding(
        "a wrong key, forced", text, ours + _of_mean(gain), gain.nothing and not opened,
        {"psnr": g.quality(theirs).value, "sealed_gain": gain.value, "opened": opened, "decoded": read},
    )  # fmt: skip


def _opens(some: Sequence[Published]) -> int:
    """How many files open under the key of the next."""
    opened = 0
    for one, other in zip(some, [*some[1:], some[0]], strict=True):
        try:
            tampering.open_codes(one.sealed, other.key)
            opened += 1
        except PPIRError:
            pass
    return opened


def _changed(g: Ground) -> Iterator[Finding]:
    draw = np.random.default_rng(g.effort.seed)
    some, most = g.judged[:10], g.effort.changes
    tried, opened = tampering.opened_anyway(some[0].sealed, some[1].sealed, some[0].key, most, g.effort.seed)
    unnoticed = 0
    for p in some:
        reconstruct(tampering.changed_maps(p.public, draw))
        unnoticed += 1
    kinds = ", ".join(f"{name} {tried[name]}" for name in tampering.KINDS)
    yield Finding(
        "changed files: flipped, swapped, mixed, cut", f"{unnoticed} of {len(some)} decode, and nobody is told",
        f"{sum(opened.values())} of {sum(tried.values())} open ({kinds})", not opened,
        {"tried": sum(tried.values()), "opened": sum(opened.values())},
    )  # fmt: skip


def _nonces(g: Ground) -> Iterator[Finding]:
    one, other = g.judged[:2]
    plain = [payloads_of(p.coded)[0] for p in (one, other)]
    bad = tampering.with_one_nonce(plain)
    read = tampering.share_right(tampering.read_by_xor(plain[0], bad[0], bad[1]), plain[1])
    guess = tampering.read_by_xor(plain[0], one.sealed.codes[0], other.sealed.codes[0])
    right = tampering.share_right(guess, plain[1])
    every = [c.nonce for p in [*g.train, *g.test] for c in p.sealed.header.codes]
    repeated = len(every) - len(set(every))
    least = min(len(p) for p in plain)
    yield Finding(
        "one nonce for two images, of which one is known",
        f"(as sealing must not be done) {read:.0%} of the other overview, byte by byte",
        f"{right:.1%} of the bytes (chance {1 / 256:.1%}); {repeated} of {len(every)} nonces repeated",
        not repeated and right < 1 / 256 + 5 * (1 / 256 / least) ** 0.5, {"read": read, "sealed": right},
    )  # fmt: skip


def _escalation(g: Ground) -> Iterator[Finding]:
    some = g.judged[:20]
    two = [reconstruct(first(p.maps, 2)) for p in some]
    more = []
    for p, guessed in zip(some, g.probabilities, strict=False):
        granted = len(values(first(p.public, 2)))
        weights = np.concatenate([p.true[:granted], guessed[granted:]])
        more.append(expected(p.public, weights))
    higher, tried = grants_stretched(some[0].coded, min(g.effort.changes, 2000), g.effort.seed)
    gained = g.quality(more).value - g.quality(two).value
    yield Finding(
        "a grant of the level segmentation, stretched to higher ones",
        f"the decoys of the higher levels add {gained:+.1f} dB to the image",
        f"{higher} of {tried} stretched or changed grants open anything beyond", not higher,
        {"gained": gained, "tried": tried, "opened": higher},
    )  # fmt: skip


def grants_stretched(coded: Any, changes: int, seed: int = 0) -> tuple[int, int]:
    """A grant of level 2: used for each higher level, by another site, for another image, and with changed bytes.

    How many of these opened anything beyond what was granted, and how many were tried.
    """
    draw = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="ppir-attack-") as folder:
        sites = make_sites(Path(folder), ("owner", "friend", "stranger"))
        key, other = new_key(), new_key()
        sealed = seal_again(coded, key)
        card = cards.read_card(cards.own_card(sites["friend"].home))
        cards.own_card(sites["stranger"].home)
        given = grants.make_grant(key.down_to(2), card, sites["owner"].home, purpose="a test", days=1)

        def opens(data: bytes, home: Path, image: bytes, level: int) -> bool:
            try:
                found = grants.open_grant(data, image, home)
                return len(tampering.open_codes(sealed, found.down_to(level))) >= level
            except (PPIRError, ValueError):
                return False

        friend, stranger = sites["friend"].home, sites["stranger"].home
        if not opens(given, friend, key.image_id, 2):
            raise AssertionError("the grant does not open what it grants")
        tries = [opens(given, friend, key.image_id, level) for level in range(3, len(LEVELS) + 1)]
        tries += [opens(given, stranger, key.image_id, level) for level in (1, 2)]
        tries += [opens(given, friend, other.image_id, level) for level in (1, 2)]
        for _ in range(changes):
            at = int(draw.integers(len(given)))
            changed = given[:at] + bytes([given[at] ^ (1 << int(draw.integers(8)))]) + given[at + 1 :]
            tries.append(opens(changed, friend, key.image_id, 1))
    return sum(tries), len(tries)


ATTACKS: tuple[Callable[[Ground], Iterator[Finding]], ...] = (
    _decoded_as_it_is, _decoy_classifier, _projection, _supervised_decoder, _wrong_key, _linked, _lengths,
    _shared_twice, _changed, _nonces, _escalation,
)  # fmt: skip
