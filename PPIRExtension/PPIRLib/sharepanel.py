"""The Share panel: serve my volume as a fixed image, and manage who may connect."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from PPIRLib import engine
from PPIRLib.job import Event
from PPIRLib.maskselector import MaskSelector
from PPIRLib.registerpanel import marked
from PPIRLib.run import ShareRun

_COLUMNS = (_("session"), _("peer"), _("method"), _("state"), _("numbers"))


class SharePanel:
    """Start/Stop, the live list of sessions, my fingerprint and the trusted peers."""

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any]) -> None:
        self.ui, self.logic, self._parameters = ui, logic, parameters
        self._run: ShareRun | None = None
        self._rows: dict[str, int] = {}
        self._fingerprints: list[str] = []
        self._failure = ""
        ui.shareButton.connect("clicked(bool)", self.on_share)
        ui.addPeerButton.connect("clicked(bool)", self.on_add_peer)
        ui.addDealerButton.connect("clicked(bool)", self.on_add_dealer)
        ui.removePeerButton.connect("clicked(bool)", self.on_remove_peer)
        ui.ledgerButton.connect("clicked(bool)", self.on_ledger)
        ui.showIdentityButton.connect("clicked(bool)", self.on_show_identity)
        ui.sessionsTable.setColumnCount(len(_COLUMNS))
        ui.sessionsTable.setHorizontalHeaderLabels(list(_COLUMNS))
        ui.sessionsTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.peersTable.setColumnCount(2)
        ui.peersTable.horizontalHeader().setStretchLastSection(True)
        ui.peersTable.setHorizontalHeaderLabels([_("name"), _("fingerprint")])
        for table in (ui.sessionsTable, ui.peersTable):
            table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
            table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
            table.verticalHeader().hide()
        self._mask = MaskSelector(ui.sharedMaskSelector, parameters, "sharedMask")
        self.update()

    # -------------------------------------------------------------------------------------------- state

    @property
    def sharing(self) -> bool:
        return self._run is not None

    def problem(self) -> str:
        node = self._parameters()
        if node is None or (node.sharedVolume is None and node.sharedPoints is None):
            return _("Select the volume to share.")
        if node.sharedVolume is not None and node.sharedPoints is not None:
            return _("Select either a volume or points, not both.")
        if not node.sharedName.strip():
            return _("Give the image a name.")
        if node.shareMpc and not node.shareDealer.strip():
            return _("The mpc protocol needs the address of a dealer.")
        return ""

    def update(self) -> None:
        self._mask.update()
        problem = self.problem()
        self.ui.shareButton.text = _("Stop sharing") if self.sharing else _("Start sharing")
        self.ui.shareButton.enabled = self.sharing or not problem
        self.ui.shareButton.toolTip = problem or _("Serve this volume as the fixed image")
        if not self.sharing and (problem != self._last_problem or not self._said):
            self.say(problem)
        self._last_problem = problem

    _last_problem = _said = ""

    def say(self, text: str, error: bool = False) -> None:
        self._said = text
        self.ui.shareStatusLabel.text = marked(text, error)

    # ------------------------------------------------------------------------------------------- sharing

    def on_share(self, checked: bool = False) -> None:
        if self.sharing:
            self.close()
            self.say(_("Not sharing."))
            self.update()
            return
        if problem := self.problem():
            self.say(problem, error=True)
            return
        node = self._parameters()
        try:
            engine.ensure("mpc" if node.shareMpc else "fhe")
            self._failure = ""
            start = partial(self.logic.share, node.sharedVolume, mask=node.sharedMask)
            if node.sharedPoints is not None:
                start = partial(self.logic.sharePoints, node.sharedPoints)
            self._run = start(
                onEvent=self._on_event, onFinished=self._on_finished,
                name=node.sharedName.strip(), address=node.shareAddress.strip(),
                protocols="fhe,mpc" if node.shareMpc else "fhe", losses=node.shareLosses,
                transforms=node.shareTransforms, allow=tuple(v.strip() for v in node.sharePeer.split(",") if v.strip()),
                dealer=node.shareDealer.strip(),
                budget_percent=node.budgetPercent, budget_session=node.budgetSession,
            )  # fmt: skip
        except Exception as error:
            self._run = None
            self.say(str(error), error=True)
            return
        self.say(_("Starting …"))
        self.update()

    def _on_event(self, event: Event) -> None:
        kind = event.get("event")
        stamp = time.strftime("%H:%M:%S")
        if kind == "listening":
            self.say(_("Sharing at {address}").format(address=event["address"]))
        elif kind == "session":
            self._session(event, _("running"), 0)
            name = self._name_of(event["peer"])
            self._log(stamp, _("session of {name}: {transform}, {loss}, {protocol}").format(name=name, **event))
        elif kind in ("evaluation", "session finished"):
            state = _("running") if kind == "evaluation" else _("finished")
            self._session(event, state, event["numbers"])
        elif kind in ("session ended", "refused connection", "session failed"):
            self._log(stamp, f"{kind}: {event.get('reason', '')}")
            if kind != "refused connection":
                self._sessions_ended(self._name_of(event.get("peer", "")))
        elif kind in ("ledger warning", "records adopted", "head was behind"):
            self._log(stamp, f"{kind}: {event.get('text', event.get('why', ''))}")
        elif kind == "error":
            self._failure = str(event.get("text", ""))

    def _session(self, event: Event, state: str, numbers: int) -> None:
        name = event["session"]
        if name not in self._rows:
            row = self.ui.sessionsTable.rowCount
            self.ui.sessionsTable.setRowCount(row + 1)
            self._rows[name] = row
            self._set(row, 0, name[:8])
            self._set(row, 1, self._name_of(event.get("peer", "")))
            self._set(row, 2, f"{event.get('transform', '')}, {event.get('loss', '')}, {event.get('protocol', '')}")
        self._set(self._rows[name], 3, state)
        self._set(self._rows[name], 4, f"{numbers:,}")

    def _sessions_ended(self, peer: str = "") -> None:
        """What still ran, with this peer or with any, has ended."""
        for row in self._rows.values():
            if self._cell(row, 3) == _("running") and peer in ("", self._cell(row, 1)):
                self._set(row, 3, _("ended"))

    def _set(self, row: int, column: int, text: str) -> None:
        self.ui.sessionsTable.setItem(row, column, qt.QTableWidgetItem(text))

    def _cell(self, row: int, column: int) -> str:
        return str(self.ui.sessionsTable.item(row, column).text())

    def _log(self, stamp: str, text: str) -> None:
        self.ui.shareLogTextEdit.append(marked(f"{stamp}  {text}", False))

    def on_ledger(self, checked: bool = False) -> None:
        """What peers have learned of the images shared here, over all sessions, into the log."""
        try:
            store = self._store()
            from PPIRLogic.disclosure.accounts import Accounts
            from PPIRLogic.disclosure.chain import Chain
            from PPIRLogic.network.identity import default_home, normalise_fingerprint

            rows = Accounts(default_home() / "ledger" / "accounts", Chain(default_home())).rows()
            names = {peer: store.name_of(normalise_fingerprint(peer)) or peer[:8] for peer in {r["peer"] for r in rows}}
        except Exception as error:
            self.say(str(error), error=True)
            return
        stamp = time.strftime("%H:%M:%S")
        if not rows:
            self._log(stamp, _("Ledger: nothing has been disclosed."))
        for row in rows:
            text = _("Ledger: {who} has learned {numbers:,} numbers of '{image}' at shrink factor {level}")
            self._log(
                stamp,
                text.format(
                    who=names[row["peer"]],
                    image=row["name"] or row["image"][:8],
                    **{k: row[k] for k in ("numbers", "level")},
                ),
            )

    def _on_finished(self, code: int) -> None:
        if self._run is None:
            return
        self._run = None
        self._sessions_ended()
        self.say(self._failure or _("Sharing ended (exit code {code}).").format(code=code), error=True)
        self.update()

    def close(self) -> None:
        """Stop sharing, now."""
        if self._run is not None:
            run, self._run = self._run, None
            run.stop()
            self._sessions_ended()

    # --------------------------------------------------------------------------------------------- trust

    def _store(self) -> Any:
        """The site's trust store; Declined if the packages are not there and not wanted."""
        engine.ensure("fhe")
        from PPIRLogic.network.identity import default_home
        from PPIRLogic.network.trust import TrustStore

        return TrustStore(default_home())

    def on_show_identity(self, checked: bool = False) -> None:
        try:
            engine.ensure("fhe")
            from PPIRLogic.network.identity import default_home, load_or_create_identity

            self.ui.fingerprintLabel.text = load_or_create_identity(default_home()).fingerprint
        except Exception as error:
            self.say(str(error), error=True)
        self.refreshPeers()

    def refreshPeers(self) -> None:
        """Show the trusted peers; quietly nothing while the packages are not installed."""
        if engine.missing("fhe"):
            return
        try:
            peers = self._store().peers()
        except Exception as error:
            self.say(str(error), error=True)
            return
        self._fingerprints = [p.fingerprint for p in peers]
        self.ui.peersTable.setRowCount(len(peers))
        for row, peer in enumerate(peers):
            name = _("{name} (dealer)").format(name=peer.name) if peer.role == "dealer" else peer.name
            self.ui.peersTable.setItem(row, 0, qt.QTableWidgetItem(name))
            self.ui.peersTable.setItem(row, 1, qt.QTableWidgetItem(peer.fingerprint))

    def _name_of(self, fingerprint: str) -> str:
        try:
            return self._store().name_of(fingerprint) or fingerprint[:9]
        except Exception:
            return fingerprint[:9]

    def on_add_peer(self, checked: bool = False) -> None:
        self._add("peer")

    def on_add_dealer(self, checked: bool = False) -> None:
        """The dealer of mpc: the only one that is trusted is the one that runs use."""
        self._add("dealer")

    def _add(self, role: str) -> None:
        try:
            store = self._store()
            from PPIRLogic.network.identity import default_home, load_or_create_identity, normalise_fingerprint

            fingerprint = normalise_fingerprint(self.ui.fingerprintLineEdit.text)
            if fingerprint == load_or_create_identity(default_home()).fingerprint:
                self.say(_("This is my own fingerprint. Enter the other hospital's."), error=True)
                return
            known = store.peer_of(fingerprint)
            former = known.name if known is not None and known.role == role else None
            name = self.ui.peerNameLineEdit.text.strip() or (known.name if known is not None else fingerprint[:9])
            if name == former:
                self.say(_("'{name}' is already trusted under this fingerprint.").format(name=name), error=True)
                return
            store.add(fingerprint, name, role)
        except Exception as error:
            self.say(str(error), error=True)
            return
        self.ui.fingerprintLineEdit.text = ""
        self.ui.peerNameLineEdit.text = ""
        renamed = _("Already trusted as '{former}'; now called '{name}'.").format(former=former, name=name)
        self.say(renamed if former else _("Trusted."))
        self.refreshPeers()

    def on_remove_peer(self, checked: bool = False) -> None:
        row = self.ui.peersTable.currentRow()
        if not 0 <= row < len(self._fingerprints):
            self.say(_("Select a peer in the table first."), error=True)
            return
        try:
            self._store().remove(self._fingerprints[row])
        except Exception as error:
            self.say(str(error), error=True)
            return
        self.say(_("No longer trusted; its running session ends too."))
        self.refreshPeers()
