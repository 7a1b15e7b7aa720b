"""qMRMLNodeComboBox over real MRML nodes."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
from PySide6 import QtCore

from .natives import native, stored
from .pythonqt import qt

_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")


def _refill(self: Any) -> None:
    self._host_fill()


@native
class qMRMLNodeComboBox(qt.QWidget):
    """A list of the scene's nodes of some types, with None and with entries that create, rename and delete nodes.

    Disabled until it is given a scene. Nothing is selected by itself but, without None, the first node that the
    scene already has when it is given.
    """

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAddedByUserAction = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    nodeAboutToBeEdited = QtCore.Signal(object)
    currentNodeRenamed = QtCore.Signal(str)
    _host_valid = QtCore.Signal(bool)
    _host_signals: ClassVar[dict[str, str]] = {
        **{
            f"{name}(vtkMRMLNode*)": name
            for name in (
                "currentNodeChanged",
                "nodeActivated",
                "nodeAdded",
                "nodeAddedByUser",
                "nodeAddedByUserAction",
                "nodeAboutToBeRemoved",
                "nodeAboutToBeEdited",
            )
        },
        "currentNodeChanged(bool)": "_host_valid",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._host_scene: Any = None
        self._host_current: str = ""
        self._host_requested: str = ""
        self._host_tags: list[tuple[Any, int]] = []
        self._host_renames: list[tuple[Any, int]] = []
        self._host_attributes: list[tuple[str, str, Any]] = []
        self._host_base_names: dict[str, str] = {}
        self._host_labels: dict[str, str] = {}
        self._host_combo = qt.QComboBox(self)
        self._host_combo.sizePolicy = qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._host_combo)
        self._host_combo.connect("activated(int)", self._host_activate)
        self.connect("destroyed()", self._host_forget)
        self.enabled = False

    def mrmlScene(self) -> Any:
        return self._host_scene

    def setMRMLScene(self, scene: Any) -> None:
        """Lists the scene's nodes and follows it."""
        if scene is not self._host_scene:
            self._host_take_scene(scene)

    def _host_take_scene(self, scene: Any) -> None:
        self._host_forget()
        self._host_scene = scene
        self.enabled = scene is not None
        if scene is None:
            self._host_select("")
            return
        for event in _EVENTS:
            tag = scene.AddObserver(getattr(slicer.vtkMRMLScene, event), self._host_on_scene)
            self._host_tags.append((scene, tag))
        nodes = self._host_nodes()
        wanted = self._host_requested or self._host_current
        if not wanted and not self.noneEnabled and nodes:
            wanted = nodes[0].GetID()
        self._host_requested = ""
        self._host_fill()
        self._host_select(wanted)

    def nodeCount(self) -> int:
        return len(self._host_nodes())

    def nodeFromIndex(self, index: int) -> Any:
        nodes = self._host_nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def currentNode(self) -> Any:
        return self._host_scene.GetNodeByID(self._host_current) if self._host_scene and self._host_current else None

    def setCurrentNode(self, node: Any) -> None:
        """Selects a node; one that is not listed, or None, deselects."""
        if isinstance(node, str):
            raise TypeError("setCurrentNode with an ID is deprecated: use setCurrentNodeID")
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise TypeError(f"setCurrentNode takes a vtkMRMLNode, not {node!r}")
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if self._host_scene is None:
            self._host_requested = node_id or ""
        else:
            self._host_select(node_id or "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Lists only nodes with an attribute (of any value if None); new nodes get it."""
        self._host_attributes.append((node_type, name, value))
        self._host_fill()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._host_attributes = [a for a in self._host_attributes if a[:2] != (node_type, name)]
        self._host_fill()

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._host_labels[node_type] = label
        self._host_fill()

    def nodeTypeLabel(self, node_type: str) -> str:
        known = self._host_scene.GetTypeDisplayNameByClassName(node_type) if self._host_scene else ""
        return self._host_labels.get(node_type) or known or "node"

    def addNode(self, node_type: str | None = None) -> Any:
        """Creates a node of a listed type (the first by default)."""
        if self._host_scene is None or not self.nodeTypes or (node_type and node_type not in self.nodeTypes):
            return None
        kind = node_type or self.nodeTypes[0]
        node = self._host_scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        base = self._host_base_names.get(kind) or node.GetName() or node.GetDefaultNodeNamePrefix()
        node.SetName(self._host_scene.GetUniqueNameByString(base))
        for _, name, value in self._host_attributes:
            node.SetAttribute(name, "" if value is None else str(value))
        node = self._host_scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._host_scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = node and qt.QInputDialog.getText(self, f"Rename {node.GetName()}", "New name:")
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    # What follows is the host's own.

    def _host_nodes(self) -> list[Any]:
        if self._host_scene is None:
            return []
        every = (self._host_scene.GetNthNode(i) for i in range(self._host_scene.GetNumberOfNodes()))
        kinds = list(self.nodeTypes), bool(self.showChildNodeTypes)
        return [node for node in every if self._host_lists(node, *kinds)]

    def _host_lists(self, node: Any, kinds: list[str], children: bool) -> bool:
        if not any(node.IsA(t) if children else node.GetClassName() == t for t in kinds):
            return False
        hidden = node.GetHideFromEditors() and not self.showHidden
        if hidden or any(node.IsA(t) for t in self.hideChildNodeTypes):
            return False
        values = [(node.GetAttribute(n), v) for t, n, v in self._host_attributes if node.IsA(t)]
        return all(has is not None and (wanted is None or has == str(wanted)) for has, wanted in values)

    def _host_actions(self) -> list[tuple[str, str]]:
        label = self.nodeTypeLabel(self.nodeTypes[0]) if self.nodeTypes else "node"
        actions = [("RENAME", f"Rename current {label}")] if self.renameEnabled else []
        actions += [("EDIT", f"Edit current {label}")] if self.editEnabled else []
        for kind in self.nodeTypes if self.addEnabled else []:
            actions.append((f"CREATE/{kind}", f"Create new {self.nodeTypeLabel(kind)}"))
            if self.renameEnabled:
                actions.append((f"CREATE_AS/{kind}", f"Create new {self.nodeTypeLabel(kind)} as..."))
        return actions + ([("DELETE", f"Delete current {label}")] if self.removeEnabled else [])

    def _host_fill(self) -> None:
        """Lists None, the nodes and the actions again; the current node stays, or is replaced if it is gone."""
        combo, nodes = self._host_combo, self._host_nodes()
        before = combo.currentIndex
        combo.clear()
        if self.noneEnabled:
            combo.addItem(self.noneDisplay, "")
        for node in nodes:
            combo.addItem(node.GetName() or "", node.GetID())
        actions = self._host_actions()
        if actions:
            combo.insertSeparator(combo.count)
        for action, text in actions:
            combo.addItem(text, action)
        combo.placeholderText = f"Select a {self.nodeTypeLabel(self.nodeTypes[0]) if self.nodeTypes else 'node'}"
        self._host_observe_names(nodes)
        ids = ([""] if self.noneEnabled else []) + [n.GetID() for n in nodes]
        if self._host_current and self._host_current not in ids:
            self._host_select(ids[min(before - 1, len(ids) - 1)] if before > 0 and ids else "")
        else:
            self._host_display()

    def _host_display(self) -> None:
        index = self._host_combo.findData(self._host_current)
        self._host_combo.currentIndex = index if self._host_current or self.noneEnabled else -1

    def _host_select(self, node_id: str) -> None:
        listed = node_id in [n.GetID() for n in self._host_nodes()]
        node_id = node_id if listed else ""
        changed = node_id != self._host_current
        self._host_current = node_id
        self._host_display()
        if changed:
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            self._host_valid.emit(node is not None)
            self.currentNodeIDChanged.emit(node_id)

    def _host_activate(self, index: int) -> None:
        """The user picked an entry: a node, None or an action."""
        data = self._host_combo.itemData(index)
        action, _, kind = str(data).partition("/")
        self._host_display()
        if action in ("RENAME", "EDIT", "DELETE"):
            {"RENAME": self.renameCurrentNode, "EDIT": self.editCurrentNode, "DELETE": self.removeCurrentNode}[action]()
        elif action in ("CREATE", "CREATE_AS"):
            self._host_create(kind, action == "CREATE_AS")
        else:
            self._host_select(data)
            self.nodeActivated.emit(self.currentNode())

    def _host_create(self, kind: str, ask_name: bool) -> None:
        name = qt.QInputDialog.getText(self, f"Create new {self.nodeTypeLabel(kind)}", "New name:") if ask_name else ""
        if ask_name and not name:
            return
        node = self.addNode(kind)
        if name:
            node.SetName(name)
        self.setCurrentNode(node)
        self.nodeAddedByUserAction.emit(node)

    def _host_on_scene(self, caller: Any, event: str) -> None:
        self._host_fill()

    def _host_observe_names(self, nodes: list[Any]) -> None:
        for node, tag in self._host_renames:
            node.RemoveObserver(tag)
        self._host_renames = [(n, n.AddObserver("ModifiedEvent", self._host_on_rename)) for n in nodes]

    def _host_on_rename(self, node: Any, event: str) -> None:
        index = self._host_combo.findData(node.GetID())
        if index >= 0 and self._host_combo.itemText(index) != (node.GetName() or ""):
            self._host_combo.setItemText(index, node.GetName() or "")

    def _host_forget(self) -> None:
        for observed, tag in [*self._host_tags, *self._host_renames]:
            observed.RemoveObserver(tag)
        self._host_tags, self._host_renames = [], []

    def _host_set_base_name(self, name: str) -> None:
        for kind in self.nodeTypes:
            self._host_base_names[kind] = name

    nodeTypes = stored("QStringList", "nodeTypes", [], _refill)
    showHidden = stored(bool, "showHidden", False, _refill)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, _refill)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], _refill)
    noneEnabled = stored(bool, "noneEnabled", False, _refill)
    noneDisplay = stored("QString", "noneDisplay", "None", _refill)
    addEnabled = stored(bool, "addEnabled", True, _refill)
    removeEnabled = stored(bool, "removeEnabled", True, _refill)
    editEnabled = stored(bool, "editEnabled", False, _refill)
    renameEnabled = stored(bool, "renameEnabled", False, _refill)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored("QString", "interactionNodeSingletonTag", "Singleton")
    currentNodeID = QtCore.Property("QString", lambda self: self._host_current, setCurrentNodeID)
    baseName = QtCore.Property(
        "QString",
        lambda self: self._host_base_names.get(self.nodeTypes[0], "") if self.nodeTypes else "",
        _host_set_base_name,
    )
