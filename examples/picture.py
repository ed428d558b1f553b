#!/usr/bin/env python3
"""Draws a solution.hdf as a PNG, without a screen.

usage: picture.py solution.hdf picture.png --array von_mises [--component magnitude|0|1|2]
                  [--warp displacement] [--factor 100] [--edges] [--isolines 10]
                  [--view 1,-1.5,0.8] [--zoom 1] [--size 1600x1000] [--title TEXT]

Needs the Python package `vtk` (9.4 or later chooses EGL or OSMesa by itself; one of the system
libraries libegl1 or libosmesa6 must be there). Two-dimensional results are looked at from above.
"""

import argparse
import os
import sys

import vtkmodules.vtkInteractionStyle  # noqa: F401  registers what a render window needs
import vtkmodules.vtkRenderingFreeType  # noqa: F401
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401
from vtkmodules.vtkCommonCore import vtkDoubleArray, vtkLogger
from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkFiltersCore import vtkAppendFilter, vtkCleanPolyData, vtkContourFilter, vtkPolyDataNormals
from vtkmodules.vtkFiltersGeneral import vtkWarpVector
from vtkmodules.vtkFiltersGeometry import vtkDataSetSurfaceFilter
from vtkmodules.vtkIOHDF import vtkHDFReader
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingAnnotation import vtkScalarBarActor
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkColorTransferFunction,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTextActor,
    vtkWindowToImageFilter,
)

# Nine colours of the map "viridis" (Smith, van der Walt, Firing; CC0): even to the eye, and in grey.
VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
TEXT = (0.15, 0.15, 0.18)


def numbers(text):
    return [float(x) for x in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solution")
    parser.add_argument("picture")
    parser.add_argument("--array", required=True, help="a point or cell array to colour by")
    parser.add_argument("--component", default="magnitude", help="of a vector: magnitude, or a number from 0")
    parser.add_argument("--warp", metavar="ARRAY", help="a vector array to move the points by")
    parser.add_argument("--factor", type=float, help="of the warp; default: a tenth of the body at the most")
    parser.add_argument("--edges", action="store_true", help="draw the edges of cells")
    parser.add_argument("--isolines", type=int, default=0, metavar="N", help="draw N lines of equal value")
    parser.add_argument("--view", type=numbers, metavar="X,Y,Z", help="from where to look")
    parser.add_argument("--zoom", type=float, default=1.0)
    parser.add_argument("--range", type=numbers, metavar="LOW,HIGH", help="of the colours")
    parser.add_argument("--size", default="1600x1000", metavar="WxH")
    parser.add_argument("--title", help="above the colour bar; default: the array's name")
    return parser.parse_args()


def read(path):
    """The whole grid as one, without faces between the ranks' parts."""
    reader = vtkHDFReader()
    if not os.path.exists(path) or not reader.CanReadFile(path):
        sys.exit(f"{path}: not a VTKHDF file that can be read")
    reader.SetFileName(path)
    reader.Update()
    data = reader.GetOutputDataObject(0)
    if data.IsA("vtkUnstructuredGrid"):
        return data
    append = vtkAppendFilter()
    append.MergePointsOn()
    for k in range(data.GetNumberOfPartitions()):
        part = data.GetPartition(k)
        if part is not None and part.GetNumberOfPoints():
            append.AddInputData(part)
    append.Update()
    return append.GetOutput()


def scalar(data, name, component):
    """Adds the wanted component as an array of its own; says whether it lies on points."""
    for on_points, attributes in ((True, data.GetPointData()), (False, data.GetCellData())):
        source = attributes.GetArray(name)
        if source is None:
            continue
        n = source.GetNumberOfComponents()
        if component != "magnitude" and not (component.isdigit() and int(component) < n):
            sys.exit(f"`{name}` has {n} components, numbered from 0: there is no `{component}`")
        chosen = vtkDoubleArray()
        chosen.SetName("shown")
        chosen.SetNumberOfTuples(source.GetNumberOfTuples())
        for row in range(source.GetNumberOfTuples()):
            entries = source.GetTuple(row)
            if component != "magnitude":
                value = entries[int(component)]
            else:
                value = entries[0] if n == 1 else sum(x * x for x in entries) ** 0.5
            chosen.SetValue(row, value)
        attributes.AddArray(chosen)
        attributes.SetActiveScalars("shown")
        return on_points, chosen.GetRange()
    names = [a.GetArrayName(k) for a in (data.GetPointData(), data.GetCellData()) for k in range(a.GetNumberOfArrays())]
    sys.exit(f"there is no array `{name}`; there are: {', '.join(names)}")


def warp(grid, name, factor):
    vectors = grid.GetPointData().GetArray(name)
    if vectors is None or vectors.GetNumberOfComponents() != 3:
        sys.exit(f"`{name}` is no point array of three components to warp by")
    if factor is None:
        largest = vectors.GetMaxNorm()
        factor = 0.1 * grid.GetLength() / largest if largest > 0 else 1.0
    warp = vtkWarpVector()
    warp.SetInputData(grid)
    warp.SetInputArrayToProcess(0, 0, 0, vtkDataObject.FIELD_ASSOCIATION_POINTS, name)
    warp.SetScaleFactor(factor)
    warp.Update()
    return warp.GetOutput()


def colours(low, high):
    table = vtkColorTransferFunction()
    for k, code in enumerate(VIRIDIS):
        rgb = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        table.AddRGBPoint(low + (high - low) * k / (len(VIRIDIS) - 1), *rgb)
    return table


def surface_actor(surface, on_points, table, edges, flat):
    mapper = vtkPolyDataMapper()
    if flat:
        mapper.SetInputData(surface)
    else:
        # Sharp edges of a body stay sharp, curved faces look curved.
        normals = vtkPolyDataNormals()
        normals.SetInputData(surface)
        normals.SetFeatureAngle(30)
        mapper.SetInputConnection(normals.GetOutputPort())
    mapper.SetLookupTable(table)
    mapper.UseLookupTableScalarRangeOn()
    if on_points:
        mapper.SetScalarModeToUsePointFieldData()
    else:
        mapper.SetScalarModeToUseCellFieldData()
    mapper.SelectColorArray("shown")
    mapper.SetInterpolateScalarsBeforeMapping(True)
    actor = vtkActor()
    actor.SetMapper(mapper)
    if edges:
        actor.GetProperty().EdgeVisibilityOn()
        actor.GetProperty().SetEdgeColor(0.1, 0.1, 0.12)
        actor.GetProperty().SetLineWidth(1.0)
    if flat:
        actor.GetProperty().LightingOff()
    else:
        actor.GetProperty().SetAmbient(0.4)
        actor.GetProperty().SetDiffuse(0.7)
    return actor


def isoline_actor(surface, low, high, n):
    lines = vtkContourFilter()
    lines.SetInputData(surface)
    lines.SetInputArrayToProcess(0, 0, 0, vtkDataObject.FIELD_ASSOCIATION_POINTS, "shown")
    step = (high - low) / (n + 1)
    lines.GenerateValues(n, low + step, high - step)
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(lines.GetOutputPort())
    mapper.ScalarVisibilityOff()
    mapper.SetResolveCoincidentTopologyToPolygonOffset()
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(0.05, 0.05, 0.06)
    actor.GetProperty().SetLineWidth(1.5)
    return actor


def colour_bar(table, height):
    bar = vtkScalarBarActor()
    bar.SetLookupTable(table)
    bar.SetNumberOfLabels(5)
    # VTK 9.6 went from printf's formats to those of std::format.
    bar.SetLabelFormat("{:.3g}" if "{" in bar.GetLabelFormat() else "%.3g")
    bar.SetUnconstrainedFontSize(True)
    bar.GetLabelTextProperty().SetColor(*TEXT)
    bar.GetLabelTextProperty().SetFontSize(height // 40)
    bar.GetLabelTextProperty().ShadowOff()
    bar.GetLabelTextProperty().ItalicOff()
    bar.GetLabelTextProperty().BoldOff()
    bar.SetWidth(0.08)
    bar.SetHeight(0.7)
    bar.SetPosition(0.9, 0.12)
    return bar


def title_actor(text, width, height):
    actor = vtkTextActor()
    actor.SetInput(text)
    style = actor.GetTextProperty()
    style.SetColor(*TEXT)
    style.SetFontSize(height // 32)
    style.SetJustificationToRight()
    actor.SetPosition(int(0.985 * width), int(0.86 * height))
    return actor


def main():
    # Without an X server VTK goes on to EGL or OSMesa, after a warning that helps nobody here.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    options = arguments()
    width, height = (int(n) for n in options.size.lower().split("x"))
    grid = read(options.solution)
    bounds = grid.GetBounds()
    flat = bounds[5] - bounds[4] <= 1e-9 * grid.GetLength() and not options.warp
    if options.warp:
        grid = warp(grid, options.warp, options.factor)

    outline = vtkDataSetSurfaceFilter()
    outline.SetInputData(grid)
    # Cells of higher degree are drawn with their curvature.
    outline.SetNonlinearSubdivisionLevel(2)
    clean = vtkCleanPolyData()
    clean.SetInputConnection(outline.GetOutputPort())
    clean.Update()
    surface = clean.GetOutput()
    on_points, (low, high) = scalar(surface, options.array, options.component)
    if options.range:
        low, high = options.range
    table = colours(low, high if high > low else low + 1.0)

    renderer = vtkRenderer()
    renderer.SetBackground(1.0, 1.0, 1.0)
    renderer.AddActor(surface_actor(surface, on_points, table, options.edges, flat))
    if options.isolines and on_points and high > low:
        renderer.AddActor(isoline_actor(surface, low, high, options.isolines))
    renderer.AddViewProp(colour_bar(table, height))
    renderer.AddViewProp(title_actor(options.title or options.array, width, height))

    camera = renderer.GetActiveCamera()
    view = options.view or ([0, 0, 1] if flat else [1.0, -1.5, 0.8])
    camera.SetFocalPoint(0, 0, 0)
    camera.SetPosition(*view)
    camera.SetViewUp(*([0, 1, 0] if abs(view[0]) + abs(view[1]) < 1e-9 else [0, 0, 1]))
    if flat:
        camera.ParallelProjectionOn()
    renderer.ResetCamera()
    camera.Zoom(1.25 * options.zoom)

    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(8)
    window.SetSize(width, height)
    window.AddRenderer(renderer)
    window.Render()
    image = vtkWindowToImageFilter()
    image.SetInput(window)
    image.ReadFrontBufferOff()
    writer = vtkPNGWriter()
    writer.SetFileName(options.picture)
    writer.SetInputConnection(image.GetOutputPort())
    writer.Write()
    print(f"{options.picture}: {options.array} from {low:g} to {high:g}")


if __name__ == "__main__":
    main()
