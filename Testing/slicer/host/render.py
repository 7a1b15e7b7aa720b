"""Pictures of widgets."""

from __future__ import annotations

import os
from typing import Any

from PySide6 import QtGui, QtWidgets

from .session import process_events


def grab(
    widget: Any,
    path: str | os.PathLike[str],
    scale: float = 1.0,
    font_scale: float = 1.0,
    width: int | None = None,
) -> tuple[int, int]:
    """Saves a PNG of a widget (or of a module's panel) and returns its size in pixels.

    `scale` is the screen's: the layout stays and is painted with that many pixels per unit, as Qt does with
    QT_SCALE_FACTOR, which itself can not change at run time. `font_scale` is the user's text size: the layout is
    made anew with larger letters. `width` is the panel's, in units; the height follows from the contents.
    """
    widget = getattr(widget, "parent", widget) if not hasattr(widget, "isWidgetType") else widget
    usual = QtWidgets.QApplication.font()
    larger = QtGui.QFont(usual)
    larger.setPointSizeF(usual.pointSizeF() * font_scale)
    QtWidgets.QApplication.setFont(larger)
    try:
        widget.show()
        process_events()
        _fit(widget, width)
        image = QtGui.QImage(widget.size * scale, QtGui.QImage.Format_RGB32)
        image.setDevicePixelRatio(scale)
        image.fill(widget.palette.window().color())
        widget.render(image)
    finally:
        QtWidgets.QApplication.setFont(usual)
        process_events()
    if not image.save(os.fspath(path)):
        raise OSError(f"{path} could not be written")
    return image.width(), image.height()


def _fit(widget: Any, width: int | None) -> None:
    """Gives the widget its width, and the height that its contents then want."""
    wanted = widget.sizeHint.expandedTo(widget.minimumSizeHint)
    width = width or wanted.width()
    tall = widget.heightForWidth(width) if widget.hasHeightForWidth() else wanted.height()
    widget.resize(width, max(tall, widget.minimumSizeHint.height()))
    process_events()
