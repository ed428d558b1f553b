#!/usr/bin/env python3
"""Reads a VTKHDF file with VTK and prints what it holds as JSON.

usage: read_vtkhdf.py FILE [--at=X,Y,Z]... [--integrate] [--compare=ARRAY=EXPRESSION]...

n_points, n_cells, bounds; cell_types, a histogram by VTK's type number; partitions, each with its
points and cells; point_data and cell_data, for each array components, min, max, sum (lists, one
entry a component). --at adds `probes`: point values by vtkProbeFilter, `valid` false outside of the
grid. --integrate adds `integral`: `measure` and the integral of every array by
vtkIntegrateAttributes. --compare adds `compare`: the largest difference at any point between an array of
point data and an expression of x, y, z in Python (one a component, with `;` between), and the
array's number of components. Needs the Python package `vtk`.
"""

import argparse
import json
import math
import sys

import numpy
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkPolyData, vtkUnstructuredGrid
from vtkmodules.vtkFiltersCore import vtkAppendFilter, vtkProbeFilter
from vtkmodules.vtkFiltersParallel import vtkIntegrateAttributes
from vtkmodules.vtkIOHDF import vtkHDFReader


def as_list(values):
    return [float(v) if math.isfinite(v) else None for v in values]


def columns(array):
    values = vtk_to_numpy(array)
    return values.reshape(len(values), -1) if len(values) else values.reshape(0, array.GetNumberOfComponents())


def arrays_of(attributes):
    return [attributes.GetArray(k) for k in range(attributes.GetNumberOfArrays())]


def describe(attributes):
    found = {}
    for array in arrays_of(attributes):
        values = columns(array)
        entry = {"components": array.GetNumberOfComponents(), "type": array.GetDataTypeAsString()}
        if len(values):
            entry.update(min=as_list(values.min(0)), max=as_list(values.max(0)), sum=as_list(values.sum(0)))
        found[array.GetName()] = entry
    return found


def rows(attributes, row, skip=()):
    return {a.GetName(): as_list(columns(a)[row]) for a in arrays_of(attributes) if a.GetName() not in skip}


def read(path):
    """The whole grid, and the points and cells of each partition."""
    reader = vtkHDFReader()
    if not reader.CanReadFile(path):
        sys.exit(f"{path}: VTK cannot read this file")
    reader.SetFileName(path)
    reader.UpdateInformation()
    if hasattr(reader, "MergePartsOff"):
        reader.MergePartsOff()
    reader.Update()
    data = reader.GetOutputDataObject(0)
    if data is None:
        sys.exit(f"{path}: VTK read nothing")
    if data.IsA("vtkUnstructuredGrid"):
        # VTK gives one partition as the grid itself.
        return data, [data]
    parts = [data.GetPartition(k) for k in range(data.GetNumberOfPartitions())]
    append = vtkAppendFilter()
    append.MergePointsOff()
    for part in parts:
        if part is not None and part.GetNumberOfPoints():
            append.AddInputData(part)
    if append.GetNumberOfInputConnections(0) == 0:
        return vtkUnstructuredGrid(), parts
    append.Update()
    return append.GetOutput(), parts


def probe(grid, points):
    cloud, places = vtkPolyData(), vtkPoints()
    places.SetDataTypeToDouble()
    for point in points:
        places.InsertNextPoint(point)
    cloud.SetPoints(places)
    probe = vtkProbeFilter()
    probe.SetInputData(cloud)
    probe.SetSourceData(grid)
    probe.Update()
    found = probe.GetOutput().GetPointData()
    valid = vtk_to_numpy(found.GetArray("vtkValidPointMask"))
    return [
        {"at": list(point), "valid": bool(valid[k]), "values": rows(found, k, ("vtkValidPointMask",))}
        for k, point in enumerate(points)
    ]


def integrate(grid):
    integrate = vtkIntegrateAttributes()
    integrate.SetInputData(grid)
    integrate.Update()
    total = integrate.GetOutput()
    measures = ("Volume", "Area", "Length")
    measure = [total.GetCellData().GetArray(name) for name in measures]
    measure = [array.GetValue(0) for array in measure if array is not None]
    return {
        "measure": measure[0] if measure else None,
        "point_data": rows(total.GetPointData(), 0),
        "cell_data": rows(total.GetCellData(), 0, measures),
    }


def compare(grid, name, expressions):
    array = grid.GetPointData().GetArray(name)
    if array is None:
        sys.exit(f"there is no point data {name}")
    values = columns(array)
    x, y, z = vtk_to_numpy(grid.GetPoints().GetData()).T
    scope = {"x": x, "y": y, "z": z, "sqrt": numpy.sqrt}
    exact = [numpy.broadcast_to(eval(e, scope), x.shape) for e in expressions.split(";")]
    if len(exact) != values.shape[1]:
        sys.exit(f"{name} has {values.shape[1]} components, not {len(exact)}")
    return {"components": len(exact), "difference": float(numpy.abs(values - numpy.stack(exact, 1)).max())}


def histogram(grid):
    counts = {}
    for k in range(grid.GetNumberOfCells()):
        kind = str(grid.GetCellType(k))
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--at", action="append", default=[], metavar="X,Y,Z")
    parser.add_argument("--integrate", action="store_true")
    parser.add_argument("--compare", action="append", default=[], metavar="ARRAY=EXPRESSION")
    options = parser.parse_args()

    grid, parts = read(options.file)
    answer = {
        "n_points": grid.GetNumberOfPoints(),
        "n_cells": grid.GetNumberOfCells(),
        "bounds": list(grid.GetBounds()),
        "cell_types": histogram(grid),
        "point_data": describe(grid.GetPointData()),
        "cell_data": describe(grid.GetCellData()),
    }
    if parts is not None:
        size = lambda part: (part.GetNumberOfPoints(), part.GetNumberOfCells()) if part is not None else (0, 0)
        answer["partitions"] = [{"points": points, "cells": cells} for points, cells in map(size, parts)]
    if options.at:
        points = [[float(x) for x in text.split(",")] for text in options.at]
        if any(len(point) != 3 for point in points):
            parser.error("--at takes three numbers: X,Y,Z")
        answer["probes"] = probe(grid, points)
    if options.integrate:
        answer["integral"] = integrate(grid)
    if options.compare:
        answer["compare"] = {}
        for text in options.compare:
            name, expressions = text.split("=", 1)
            answer["compare"][name] = compare(grid, name, expressions)
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
