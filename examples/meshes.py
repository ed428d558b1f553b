#!/usr/bin/env python3
"""Regenerates every mesh that is committed: examples/bracket and tests/meshes.

    python3 -m venv venv && venv/bin/pip install gmsh==4.15.2
    apt-get install libglu1-mesa libgl1 libxcursor1 libxinerama1 libxft2 libxrender1    # Debian
    venv/bin/python examples/meshes.py [--check]

With --check nothing is written outside a temporary folder; the exit code says whether the files there
have the same size as the committed ones (their bytes may differ between versions of Gmsh).
"""

import math
import pathlib
import shutil
import sys
import tempfile

import gmsh

ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIANTS = [(2.2, False), (2.2, True), (4.1, False), (4.1, True)]


def variant_name(version, binary):
    return f"{str(version).replace('.', '')}-{'binary' if binary else 'ascii'}"


class Model:
    """A fresh model; `save` writes it. Group names are given as {name: (dim, tags)}."""

    def __init__(self, name, **options):
        gmsh.clear()
        gmsh.option.restoreDefaults()
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("General.NumThreads", 1)
        gmsh.option.setNumber("Mesh.RandomSeed", 1)
        for key, value in options.items():
            gmsh.option.setNumber(key.replace("_", "."), value)
        gmsh.model.add(name)

    @staticmethod
    def groups(**named):
        for name, (dim, tags) in named.items():
            gmsh.model.addPhysicalGroup(dim, tags, name=name.replace("_", "-"))

    @staticmethod
    def mesh(dim, order=1, incomplete=False):
        gmsh.option.setNumber("Mesh.SecondOrderIncomplete", int(incomplete))
        gmsh.model.mesh.generate(dim)
        if order > 1:
            gmsh.model.mesh.setOrder(order)

    @staticmethod
    def save(path, version=4.1, binary=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        gmsh.option.setNumber("Mesh.MshFileVersion", version)
        gmsh.option.setNumber("Mesh.Binary", int(binary))
        gmsh.write(str(path))


def at(dim, axis, value, tolerance=1e-6):
    """Tags of the entities of dimension `dim` that lie in the plane axis = value."""
    found = []
    for d, tag in gmsh.model.getEntities(dim):
        box = gmsh.model.getBoundingBox(d, tag)
        if abs(box[axis] - value) < tolerance and abs(box[axis + 3] - value) < tolerance:
            found.append(tag)
    return found


def box_of(dim, tag):
    low_high = gmsh.model.getBoundingBox(dim, tag)
    return low_high[:3], low_high[3:]


# The L-bracket of examples/bracket, in millimetres.
def bracket(folder):
    model = Model("bracket", Mesh_MeshSizeMax=6.0, Mesh_MeshSizeFromCurvature=14, Mesh_Optimize=1)
    occ = gmsh.model.occ
    width, depth, height, thick, radius, hole = 60.0, 60.0, 60.0, 8.0, 6.0, 4.5
    base = occ.addBox(0, -width / 2, 0, depth, width, thick)
    wall = occ.addBox(0, -width / 2, 0, thick, width, height)
    body, _ = occ.fuse([(3, base)], [(3, wall)])
    occ.synchronize()
    inner = [
        tag
        for _, tag in gmsh.model.getEntities(1)
        if all(abs(low - thick) < 1e-3 and abs(high - thick) < 1e-3
               for low, high in zip(box_of(1, tag)[0][::2], box_of(1, tag)[1][::2]))
    ]
    body = occ.fillet([tag for _, tag in body], inner, [radius])
    bolts = [(3, occ.addCylinder(depth * 0.65, y, -1, 0, 0, thick + 2, hole)) for y in (-17.0, 17.0)]
    ports = [(3, occ.addCylinder(-1, y, height * 0.65, thick + 2, 0, 0, hole)) for y in (-17.0, 17.0)]
    occ.cut(body, bolts + ports)
    occ.synchronize()

    clamp, port_faces, fillet, others = [], [], [], []
    for _, tag in gmsh.model.getEntities(2):
        low, high = box_of(2, tag)
        size = [b - a for a, b in zip(low, high)]
        kind = gmsh.model.getType(2, tag)
        if kind == "Cylinder" and size[1] > width / 2:
            fillet.append(tag)
        elif kind == "Cylinder" and high[2] < thick + 1:
            clamp.append(tag)
        elif kind == "Cylinder":
            port_faces.append(tag)
        else:
            others.append(tag)
    assert len(clamp) == 2 and len(port_faces) == 2 and len(fillet) == 1, (clamp, port_faces, fillet)
    base, back, top, tip = at(2, 2, 0.0), at(2, 0, 0.0), at(2, 2, height), at(2, 0, depth)
    sides = at(2, 1, -width / 2) + at(2, 1, width / 2)
    inside = [t for t in others if t not in base + back + top + tip + sides]
    model.groups(
        steel=(3, [tag for _, tag in gmsh.model.getEntities(3)]),
        clamp=(2, clamp), top=(2, top), base=(2, base), back=(2, back), tip=(2, tip),
        fillet=(2, fillet), ports=(2, port_faces), sides=(2, sides), inside=(2, inside),
    )
    near = gmsh.model.mesh.field.add("Distance")
    gmsh.model.mesh.field.setNumbers(near, "SurfacesList", fillet + clamp)
    gmsh.model.mesh.field.setNumber(near, "Sampling", 40)
    size = gmsh.model.mesh.field.add("Threshold")
    for key, value in {"InField": near, "SizeMin": 2.6, "SizeMax": 6.0, "DistMin": 0.5, "DistMax": 12.0}.items():
        gmsh.model.mesh.field.setNumber(size, key, value)
    gmsh.model.mesh.field.setAsBackgroundMesh(size)
    model.mesh(3)
    model.save(folder / "bracket.msh")


# One body, two halves [0,1] and [1,2] long, for each shape and order, in every variant of the format.
def two_halves(dim, recombine):
    geo = gmsh.model.geo
    n = {1: 4, 2: 3, 3: 2}[dim]
    points = [geo.addPoint(x, 0, 0, 0.4) for x in (0, 1, 2)]
    halves = [(1, geo.addLine(points[k], points[k + 1])) for k in range(2)]
    structured = recombine or dim == 1
    if structured:
        for _, curve in halves:
            geo.mesh.setTransfiniteCurve(curve, n + 1)
    for d, direction in list(enumerate([(0, 1, 0), (0, 0, 1)], start=2))[: dim - 1]:
        layers = {"numElements": [n], "recombine": True} if recombine else {}
        parts = [geo.extrude([half], *direction, **layers) for half in halves]
        halves = [next(e for e in part if e[0] == d) for part in parts]
    geo.synchronize()
    gmsh.option.setNumber("Mesh.MeshSizeMax", 0.5)
    left, right = (tag for _, tag in sorted(halves))
    groups = {"left": (dim, [left]), "right": (dim, [right]), "body": (dim, [left, right])}
    for axis, name in enumerate("xyz"[:dim]):
        groups[f"{name}_min"] = (dim - 1, at(dim - 1, axis, 0))
        groups[f"{name}_max"] = (dim - 1, at(dim - 1, axis, 2 if axis == 0 else 1))
    groups["interface"] = (dim - 1, at(dim - 1, 0, 1))
    if dim == 3:
        groups["rim"] = (1, [t for t in at(1, 0, 0) if t in at(1, 1, 0) + at(1, 2, 0)])
    if dim > 1:
        groups["corner"] = (0, [t for t in at(0, 0, 0) if t in at(0, 1, 0) and t in at(0, 2, 0)])
    Model.groups(**groups)


def variants(folder):
    bodies = {
        "line2": (1, False, 1, False), "line3": (1, False, 2, False),
        "tri3": (2, False, 1, False), "tri6": (2, False, 2, False),
        "quad4": (2, True, 1, False), "quad8": (2, True, 2, True), "quad9": (2, True, 2, False),
        "tet4": (3, False, 1, False), "tet10": (3, False, 2, False),
        "hex8": (3, True, 1, False), "hex20": (3, True, 2, True), "hex27": (3, True, 2, False),
    }
    for name, (dim, recombine, order, incomplete) in bodies.items():
        model = Model(name)
        two_halves(dim, recombine)
        model.mesh(dim, order, incomplete)
        for version, binary in VARIANTS:
            model.save(folder / "variants" / f"{name}-{variant_name(version, binary)}.msh", version, binary)


# Curved bodies of second order, in sizes that halve.
def sector(n, recombine):
    """The ring 1 < r < 2 in four quarters, n cells along each quarter's radius."""
    geo = gmsh.model.geo
    size = 1.0 / n
    center = geo.addPoint(0, 0, 0)
    rings = [
        [geo.addPoint(r * math.cos(k * math.pi / 2), r * math.sin(k * math.pi / 2), 0, size) for k in range(4)]
        for r in (1, 2)
    ]
    arcs = [[geo.addCircleArc(ring[k], center, ring[(k + 1) % 4]) for k in range(4)] for ring in rings]
    spokes = [geo.addLine(rings[0][k], rings[1][k]) for k in range(4)]
    faces = []
    for k in range(4):
        loop = geo.addCurveLoop([spokes[k], arcs[1][k], -spokes[(k + 1) % 4], -arcs[0][k]])
        faces.append(geo.addPlaneSurface([loop]))
        if recombine:
            geo.mesh.setTransfiniteCurve(spokes[k], n + 1)
            geo.mesh.setTransfiniteCurve(arcs[0][k], 2 * n + 1)
            geo.mesh.setTransfiniteCurve(arcs[1][k], 2 * n + 1)
            geo.mesh.setTransfiniteSurface(faces[-1])
            geo.mesh.setRecombine(2, faces[-1])
    geo.synchronize()
    return faces, arcs


def annulus(folder):
    for name, recombine in (("quad9", True), ("tri6", False)):
        for n in (1, 2, 4, 8):
            model = Model("annulus")
            faces, arcs = sector(n, recombine)
            model.groups(ring=(2, faces), inner=(1, arcs[0]), outer=(1, arcs[1]))
            model.mesh(2, 2)
            model.save(folder / f"annulus-{name}-{n}.msh")


def octant(folder):
    for n in (1, 2, 4):
        model = Model("octant", Mesh_MeshSizeMax=0.8 / n, Mesh_MeshSizeMin=0.8 / n, Mesh_HighOrderOptimize=1)
        ball = gmsh.model.occ.addSphere(0, 0, 0, 1, -1, 0, math.pi / 2, math.pi / 2)
        gmsh.model.occ.synchronize()
        planes = {f"{name}_min": (2, at(2, axis, 0)) for axis, name in enumerate("xyz")}
        flat = [tag for _, tags in planes.values() for tag in tags]
        curved = [tag for _, tag in gmsh.model.getEntities(2) if tag not in flat]
        model.groups(ball=(3, [ball]), sphere=(2, curved), **planes)
        model.mesh(3, 2)
        model.save(folder / f"octant-tet10-{n}.msh")


def pipe(folder):
    for n in (1, 2):
        model = Model("pipe")
        faces, arcs = sector(n, True)
        made = gmsh.model.geo.extrude([(2, f) for f in faces], 0, 0, 1, numElements=[n], recombine=True)
        gmsh.model.geo.synchronize()
        solids = [tag for dim, tag in made if dim == 3]
        sides = {"inner": [], "outer": []}
        for _, tag in gmsh.model.getEntities(2):
            curves = [abs(t) for _, t in gmsh.model.getBoundary([(2, tag)])]
            for side, ring in zip(sides, arcs):
                if tag not in faces and any(t in ring for t in curves):
                    sides[side].append(tag)
        model.groups(pipe=(3, solids), inner=(2, sides["inner"]), outer=(2, sides["outer"]),
                     bottom=(2, at(2, 2, 0)), top=(2, at(2, 2, 1)))
        model.mesh(3, 2)
        model.save(folder / f"pipe-hex27-{n}.msh")


def mixed(folder):
    """Triangles on the left half, quadrilaterals on the right."""
    for order in (1, 2):
        model = Model("mixed", Mesh_MeshSizeMax=0.34)
        geo = gmsh.model.geo
        low = [geo.addPoint(x, 0, 0, 0.34) for x in (0, 1, 2)]
        high = [geo.addPoint(x, 1, 0, 0.34) for x in (0, 1, 2)]
        up = [geo.addLine(a, b) for a, b in zip(low, high)]
        bottom = [geo.addLine(low[k], low[k + 1]) for k in range(2)]
        top = [geo.addLine(high[k], high[k + 1]) for k in range(2)]
        faces = [
            geo.addPlaneSurface([geo.addCurveLoop([bottom[k], up[k + 1], -top[k], -up[k]])]) for k in range(2)
        ]
        for curve in up + [bottom[1], top[1]]:
            geo.mesh.setTransfiniteCurve(curve, 4)
        geo.mesh.setTransfiniteSurface(faces[1])
        geo.mesh.setRecombine(2, faces[1])
        geo.synchronize()
        model.groups(triangles=(2, [faces[0]]), quadrilaterals=(2, [faces[1]]), body=(2, faces),
                     x_min=(1, [up[0]]), x_max=(1, [up[2]]), y_min=(1, bottom), y_max=(1, top))
        model.mesh(2, order)
        model.save(folder / f"mixed-{order}.msh")


def periodic(folder):
    """A square and a cube, each side the image of the opposite one."""
    for dim, name in ((2, "square"), (3, "cube")):
        model = Model(name, Mesh_MeshSizeMin=0.25, Mesh_MeshSizeMax=0.25)
        if dim == 2:
            tag = gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
        else:
            tag = gmsh.model.occ.addBox(0, 0, 0, 1, 1, 1)
        gmsh.model.occ.synchronize()
        groups = {"body": (dim, [tag])}
        for axis, letter in enumerate("xyz"[:dim]):
            move = [float(i == j) for i in range(4) for j in range(4)]
            move[4 * axis + 3] = 1.0
            low, high = at(dim - 1, axis, 0), at(dim - 1, axis, 1)
            gmsh.model.mesh.setPeriodic(dim - 1, high, low, move)
            groups[f"{letter}_min"], groups[f"{letter}_max"] = (dim - 1, low), (dim - 1, high)
        model.groups(**groups)
        model.mesh(dim)
        for version, binary in VARIANTS:
            model.save(folder / f"periodic-{name}-{variant_name(version, binary)}.msh", version, binary)


def separate(folder):
    """Two bodies that do not touch."""
    model = Model("separate", Mesh_MeshSizeMax=0.5)
    one = gmsh.model.occ.addBox(0, 0, 0, 1, 1, 1)
    two = gmsh.model.occ.addBox(3, 0, 0, 1, 1, 1)
    gmsh.model.occ.synchronize()
    model.groups(one=(3, [one]), two=(3, [two]), x_min=(2, at(2, 0, 0) + at(2, 0, 3)), x_max=(2, at(2, 0, 1) + at(2, 0, 4)))
    model.mesh(3)
    model.save(folder / "separate.msh")


def cylinder(folder):
    for order in (1, 2):
        model = Model("cylinder", Mesh_MeshSizeMax=0.5)
        tag = gmsh.model.occ.addCylinder(0, 0, 0, 0, 0, 3, 0.5)
        gmsh.model.occ.synchronize()
        bottom, top = at(2, 2, 0), at(2, 2, 3)
        side = [t for _, t in gmsh.model.getEntities(2) if t not in bottom + top]
        model.groups(cylinder=(3, [tag]), bottom=(2, bottom), top=(2, top), side=(2, side))
        model.mesh(3, order)
        model.save(folder / f"cylinder-{order}.msh")


def unusual(folder):
    """What a reader must refuse, or must not stumble over."""
    # Prisms: not supported.
    model = Model("prism", Mesh_MeshSizeMax=0.6)
    face = gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
    made = gmsh.model.occ.extrude([(2, face)], 0, 0, 1, numElements=[2], recombine=True)
    gmsh.model.occ.synchronize()
    model.groups(body=(3, [t for d, t in made if d == 3]), bottom=(2, [face]))
    model.mesh(3)
    for version, binary in VARIANTS:
        model.save(folder / f"prism-{variant_name(version, binary)}.msh", version, binary)

    # Cells of third order: not supported.
    model = Model("cubic", Mesh_MeshSizeMax=0.6)
    gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
    gmsh.model.occ.synchronize()
    model.mesh(2, 3)
    model.save(folder / "tri10.msh")

    # No physical groups: everything is saved. Nodes carry their places on curves and surfaces.
    model = Model("plain", Mesh_MeshSizeMax=0.6, Mesh_SaveParametric=1)
    gmsh.model.occ.addBox(0, 0, 0, 1, 1, 1)
    gmsh.model.occ.synchronize()
    model.mesh(3)
    for version, binary in VARIANTS:
        model.save(folder / f"parametric-{variant_name(version, binary)}.msh", version, binary)

    # A mesh that Gmsh partitioned: refused.
    gmsh.model.mesh.partition(2)
    model.save(folder / "partitioned.msh")

    # Groups given against the orientation of their curves and surfaces; a group without a name.
    model = Model("reversed", Mesh_MeshSizeMax=0.5)
    face = gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
    gmsh.model.occ.synchronize()
    gmsh.model.addPhysicalGroup(2, [face], 7)
    gmsh.model.addPhysicalGroup(1, [-t for t in at(1, 0, 0)], 9, name="against")
    model.mesh(2)
    for version in (2.2, 4.1):
        model.save(folder / f"reversed-{variant_name(version, False)}.msh", version, False)

    # A data section behind the mesh, to be skipped.
    model = Model("data", Mesh_MeshSizeMax=0.5)
    face = gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
    gmsh.model.occ.synchronize()
    model.groups(body=(2, [face]))
    model.mesh(2)
    view = gmsh.view.add("values")
    tags = gmsh.model.mesh.getNodes()[0]
    gmsh.view.addHomogeneousModelData(view, 0, "data", "NodeData", tags, [float(t) for t in tags])
    gmsh.option.setNumber("PostProcessing.SaveMesh", 1)
    for version, binary in VARIANTS:
        gmsh.option.setNumber("Mesh.MshFileVersion", version)
        gmsh.option.setNumber("Mesh.Binary", int(binary))
        gmsh.option.setNumber("PostProcessing.Binary", int(binary))
        gmsh.view.write(view, str(folder / f"data-{variant_name(version, binary)}.msh"))


def main():
    check = "--check" in sys.argv[1:]
    root = pathlib.Path(tempfile.mkdtemp()) if check else ROOT
    gmsh.initialize()
    meshes = root / "tests" / "meshes"
    meshes.mkdir(parents=True, exist_ok=True)
    bracket(root / "examples" / "bracket")
    for make in (variants, annulus, octant, pipe, mixed, periodic, separate, cylinder, unusual):
        make(meshes)
    gmsh.finalize()
    made = sorted(path for path in root.glob("*/**/*.msh") if "target" not in path.parts)
    print(f"{len(made)} meshes, {sum(path.stat().st_size for path in made) / 1e6:.2f} MB")
    if check:
        different = [
            str(path.relative_to(root)) for path in made
            if not (ROOT / path.relative_to(root)).exists()
            or (ROOT / path.relative_to(root)).stat().st_size != path.stat().st_size
        ]
        shutil.rmtree(root)
        if different:
            sys.exit("differ from the committed files: " + ", ".join(different))


if __name__ == "__main__":
    main()
