"""A selector of masks, bound to the parameter node by hand: label maps and segmentations.

The parameter node's own binding gives a selector the one class of its parameter; the class that both have in common
would list models and markups as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MaskSelector:
    """`selector` shows and changes the parameter `name`."""

    def __init__(self, selector: Any, parameters: Callable[[], Any], name: str) -> None:
        self._selector, self._parameters, self._name = selector, parameters, name
        self._updating = False
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self._chosen)

    def update(self) -> None:
        """Show what the parameter holds."""
        node = self._parameters()
        if node is None or self._updating:
            return
        self._updating = True
        try:
            self._selector.setCurrentNode(getattr(node, self._name))
        finally:
            self._updating = False

    def _chosen(self, mask: Any) -> None:
        node = self._parameters()
        if node is not None and not self._updating:
            setattr(node, self._name, mask)
