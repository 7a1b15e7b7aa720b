"""Slice views without a window: Slicer's own slice logic cuts, colours and blends; the picture is what a view shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui

_GAP, _TITLE = 6, 26  # pixels between pictures, and above each for its title


class SliceView:
    """One of the scene's slice views ('Red', 'Green', 'Yellow', …), with its slice and composite node in the scene."""

    def __init__(self, name: str = "Red", orientation: str = "Axial") -> None:
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.AddSliceNode(name)
        self._logic.GetSliceNode().SetOrientation(orientation)
        self._size = (0, 0)

    def show(self, background: Any, foreground: Any = None, *, compositing: int = 0, opacity: float = 0.5) -> None:
        """Two volumes in one picture; `compositing` is one of vtkMRMLSliceCompositeNode's modes."""
        node = self._logic.GetSliceCompositeNode()
        node.SetBackgroundVolumeID(background.GetID())
        node.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        node.SetCompositing(compositing)
        node.SetForegroundOpacity(opacity)

    def save(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        """What the view shows, as a PNG file; at first, or in a new size, the background volume's middle fills it."""
        if self._size != (width, height):
            self._size = (width, height)
            self._logic.ResizeSliceNode(width, height)
            self._logic.FitSliceToBackground(width, height)
            self._logic.SnapSliceOffsetToIJK()
        writer = vtk.vtkPNGWriter()
        writer.SetInputConnection(self._logic.GetImageDataConnection())
        writer.SetFileName(os.fspath(path))
        writer.Write()


def coloured(volume: Any, colour: str, window: tuple[float, float] | None = None) -> None:
    """Give a volume one of Slicer's colour tables ('Grey', 'Green', 'Magenta', …) and the range that it shows."""
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID(f"vtkMRMLColorTableNode{colour}")
    if window is not None:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(*window)


def side_by_side(pictures: Sequence[tuple[str, str | os.PathLike[str]]], path: str | os.PathLike[str]) -> None:
    """Pictures (title, PNG file) in a row, each under its title, as one PNG file."""
    images = [(title, QtGui.QImage(os.fspath(file))) for title, file in pictures]
    width = sum(image.width() for _, image in images) + _GAP * (len(images) - 1)
    whole = QtGui.QImage(width, _TITLE + max(i.height() for _, i in images), QtGui.QImage.Format_RGB32)
    whole.fill(QtCore.Qt.white)
    painter, left = QtGui.QPainter(whole), 0
    for title, image in images:
        painter.setPen(QtCore.Qt.black)
        painter.drawText(QtCore.QRect(left, 0, image.width(), _TITLE), QtCore.Qt.AlignCenter, title)
        painter.fillRect(left, _TITLE, image.width(), image.height(), QtCore.Qt.black)
        painter.drawImage(left, _TITLE, image)
        left += image.width() + _GAP
    painter.end()
    if not whole.save(os.fspath(path)):
        raise OSError(f"{path} could not be written")


def prepare_scene() -> None:
    """What the application has in every scene: the colour tables, and the orientations of slices."""
    scene = slicer.mrmlScene
    if scene.GetNodeByID("vtkMRMLColorTableNodeGrey") is None:
        logic = slicer.vtkMRMLColorLogic()
        logic.SetMRMLScene(scene)
        logic.AddDefaultColorNodes()
        logic.SetMRMLScene(None)  # or the logic takes the nodes away with it
    if scene.GetDefaultNodeByClass("vtkMRMLSliceNode") is None:
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
