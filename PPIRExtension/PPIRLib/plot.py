"""The loss as it falls, as Slicer plot nodes: one series per resolution level."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _


class LossPlot:
    """A chart that grows while a run goes on. Its nodes are not saved with the scene."""

    def __init__(self, title: str) -> None:
        self._tables: dict[int, str] = {}
        self._ids: list[str] = []
        self._chart_id = self._add("vtkMRMLPlotChartNode", _("Registration loss")).GetID()
        chart = self._chart
        chart.SetTitle(title)
        chart.SetXAxisTitle(_("accepted step"))
        chart.SetYAxisTitle(_("loss"))

    @property
    def _chart(self) -> Any:
        return slicer.mrmlScene.GetNodeByID(self._chart_id)

    def _add(self, kind: str, name: str) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetSaveWithScene(False)
        self._ids.append(node.GetID())
        return node

    def add(self, level: int, value: float) -> None:
        """The loss of one more accepted step."""
        if self._chart is None:
            return
        if level not in self._tables:
            self._tables[level] = self._new_series(level).GetID()
        table = slicer.mrmlScene.GetNodeByID(self._tables[level])
        if table is None:
            return  # deleted by hand
        row = table.GetTable().InsertNextBlankRow()
        table.GetTable().SetValue(row, 0, vtk.vtkVariant(float(row)))
        table.GetTable().SetValue(row, 1, vtk.vtkVariant(float(value)))
        table.GetTable().Modified()

    def _new_series(self, level: int) -> Any:
        table = self._add("vtkMRMLTableNode", _("Loss, level {level}").format(level=level))
        for name in ("step", "loss"):
            column = vtk.vtkDoubleArray()
            column.SetName(name)
            table.AddColumn(column)
        series = self._add("vtkMRMLPlotSeriesNode", _("level {level}").format(level=level))
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("step")
        series.SetYColumnName("loss")
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
        series.SetUniqueColor()
        self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
        return table

    def remove(self) -> None:
        """Take the nodes out of the scene: another run begins."""
        for node_id in self._ids:
            if (node := slicer.mrmlScene.GetNodeByID(node_id)) is not None:
                slicer.mrmlScene.RemoveNode(node)

    def show(self) -> None:
        """Switch to a layout with the plot, where the Plots module is there to do it."""
        plots = getattr(slicer.modules, "plots", None)
        if plots is not None and self._chart is not None:
            plots.logic().ShowChartInLayout(self._chart)
