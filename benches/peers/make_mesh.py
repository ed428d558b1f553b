#!/usr/bin/env python3
"""Makes the mesh of file3d-p1: an unstructured mesh of a perforated block, as a Gmsh file (binary MSH 4.1)
and, with the same cells, as XDMF with HDF5 for programs that read that.

    PYTHON-WITH-GMSH-AND-H5PY benches/peers/make_mesh.py [--cells 3000000] [--folder FOLDER] [--again]

The files go to a cache outside the repository and are made once; the path of the Gmsh file is the last
line that is printed. Groups: `body`, all cells, and `surface`, the whole boundary with that of the holes.
gmsh from PyPI needs (Debian) libglu1-mesa libgl1 libxcursor1 libxinerama1 libxft2 libxrender1.
"""

import argparse
import hashlib
import os
import pathlib

TARGET = 3_000_000

# Tetrahedra in a volume h^3, for the mesh that Gmsh makes with edges of length h: measured at the full size;
# small meshes come out with somewhat fewer.
CELLS_PER_CUBE = 3.9

# Axis of the cylinder, a point of its axis, radius; all go right through the block.
CYLINDERS = [
    (2, (0.22, 0.24, 0.0), 0.11),
    (2, (0.75, 0.70, 0.0), 0.14),
    (0, (0.0, 0.72, 0.25), 0.09),
    (1, (0.60, 0.0, 0.50), 0.08),
    (0, (0.0, 0.50, 0.80), 0.07),
]
# Centre and radius; the last two open into a side of the block.
SPHERES = [
    ((0.45, 0.30, 0.22), 0.13),
    ((0.25, 0.75, 0.62), 0.12),
    ((0.78, 0.25, 0.78), 0.15),
    ((0.30, 0.25, 0.70), 0.10),
    ((1.00, 0.45, 0.20), 0.12),
    ((0.50, 1.00, 0.95), 0.16),
]


def default_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "femdd-bench"


def paths(folder, cells):
    """Where the Gmsh and the XDMF file of that many cells are."""
    # Part of the name, so that a mesh of another shape or density is not taken for this one.
    made_of = hashlib.sha256(repr((CELLS_PER_CUBE, CYLINDERS, SPHERES)).encode()).hexdigest()[:8]
    stem = pathlib.Path(folder) / f"perforated-{cells}-{made_of}"
    return stem.with_suffix(".msh"), stem.with_suffix(".xdmf")


def build(gmsh, cells):
    """The mesh, in Gmsh's memory."""
    gmsh.option.setNumber("General.Terminal", 0)
    gmsh.option.setNumber("General.NumThreads", 1)
    gmsh.option.setNumber("Mesh.RandomSeed", 1)
    gmsh.option.setNumber("Mesh.Algorithm3D", 10)
    gmsh.model.add("perforated")
    occ = gmsh.model.occ
    block = occ.addBox(0, 0, 0, 1, 1, 1)
    holes = []
    for axis, foot, radius in CYLINDERS:
        direction = [0.0, 0.0, 0.0]
        direction[axis] = 1.0
        holes.append((3, occ.addCylinder(*foot, *direction, radius)))
    for centre, radius in SPHERES:
        holes.append((3, occ.addSphere(*centre, radius)))
    occ.cut([(3, block)], holes)
    occ.synchronize()
    bodies = [tag for _, tag in gmsh.model.getEntities(3)]
    volume = sum(occ.getMass(3, tag) for tag in bodies)
    surface = [tag for _, tag in gmsh.model.getBoundary([(3, tag) for tag in bodies], oriented=False)]
    gmsh.model.addPhysicalGroup(3, bodies, name="body")
    gmsh.model.addPhysicalGroup(2, surface, name="surface")
    size = (volume * CELLS_PER_CUBE / cells) ** (1 / 3)
    gmsh.option.setNumber("Mesh.MeshSizeMin", size)
    gmsh.option.setNumber("Mesh.MeshSizeMax", size)
    gmsh.model.mesh.generate(3)


def write_xdmf(gmsh, path):
    """The tetrahedra and their nodes, numbered from 0 without gaps. Returns how many there are of each."""
    import h5py
    import numpy as np

    tags, points, _ = gmsh.model.mesh.getNodes(3, includeBoundary=True)
    tags, first = np.unique(tags, return_index=True)
    points = points.reshape(-1, 3)[first]
    tetrahedra = gmsh.model.mesh.getElementsByType(4)[1].reshape(-1, 4)
    number = np.full(int(tags[-1]) + 1, -1, dtype=np.int64)
    number[tags] = np.arange(len(tags))
    tetrahedra = number[tetrahedra]
    assert tetrahedra.min() >= 0, "a tetrahedron has a node that was not listed"
    data = path.with_suffix(".h5")
    with h5py.File(data, "w") as file:
        file["geometry"] = points
        file["topology"] = tetrahedra
    path.write_text(
        f"""<?xml version="1.0"?>
<Xdmf Version="3.0"><Domain><Grid Name="mesh" GridType="Uniform">
<Topology TopologyType="Tetrahedron" NumberOfElements="{len(tetrahedra)}" NodesPerElement="4">
<DataItem Dimensions="{len(tetrahedra)} 4" NumberType="Int" Precision="8" Format="HDF">{data.name}:/topology</DataItem>
</Topology>
<Geometry GeometryType="XYZ">
<DataItem Dimensions="{len(points)} 3" NumberType="Float" Precision="8" Format="HDF">{data.name}:/geometry</DataItem>
</Geometry>
</Grid></Domain></Xdmf>
"""
    )
    return len(tetrahedra), len(points)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cells", type=int, default=TARGET, help=f"about how many tetrahedra (default {TARGET})")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder(), help="where the files go")
    parser.add_argument("--again", action="store_true", help="make them even if they are there")
    arguments = parser.parse_args()
    msh, xdmf = paths(arguments.folder, arguments.cells)
    if arguments.again or not (msh.exists() and xdmf.exists()):
        import gmsh

        arguments.folder.mkdir(parents=True, exist_ok=True)
        gmsh.initialize(interruptible=False)
        build(gmsh, arguments.cells)
        n_cells, n_vertices = write_xdmf(gmsh, xdmf)
        gmsh.option.setNumber("Mesh.MshFileVersion", 4.1)
        gmsh.option.setNumber("Mesh.Binary", 1)
        # The Gmsh file last and under its name only when it is whole: it says that the mesh is there.
        unfinished = msh.with_suffix(".part.msh")
        gmsh.write(str(unfinished))
        unfinished.rename(msh)
        gmsh.finalize()
        print(f"{n_cells} tetrahedra, {n_vertices} vertices, {msh.stat().st_size / 1e6:.0f} MB")
    print(msh)


if __name__ == "__main__":
    main()
