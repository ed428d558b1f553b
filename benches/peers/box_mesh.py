"""The box of a case file as arrays, with the cells that femdd makes of it; for programs that take a mesh from us.

    PYTHON-WITH-NUMPY box_mesh.py FILE.msh NX NY [NZ]

writes it as a Gmsh file (binary MSH 4.1) with its vertices and cells in random order, which is how a mesh
generator's may come. Imports numpy. Start at `Box`.
"""

import math
import pathlib
import struct
import sys

import numpy as np

# The simplices of a square or cube of the lattice: bit k of a corner is its step along axis k.
TETRAHEDRA = [[0, 1, 3, 7], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7], [0, 4, 5, 7], [0, 5, 1, 7]]
TRIANGLES = [[0, 1, 3], [0, 3, 2]]
SEGMENTS = [[0, 1]]
PATTERNS = {1: SEGMENTS, 2: TRIANGLES, 3: TETRAHEDRA}


class Box:
    """The unit square or cube cut into `cells` intervals along each axis; node numbers run fastest along x."""

    def __init__(self, cells):
        self.cells = cells
        self.dim = len(cells)
        self.nodes = [n + 1 for n in cells]
        self.strides = [math.prod(self.nodes[:axis]) for axis in range(self.dim)]

    def points(self):
        """All nodes: shape (n, 3)."""
        grids = np.meshgrid(*(np.linspace(0, 1, n) for n in reversed(self.nodes)), indexing="ij")
        points = np.zeros((math.prod(self.nodes), 3))
        for axis in range(self.dim):
            points[:, axis] = grids[self.dim - 1 - axis].ravel()
        return points

    def simplices(self):
        """All cells by their nodes: shape (n, dim + 1)."""
        return self._split(list(range(self.dim)), 0)

    def sides(self):
        """Name and facets (n, dim) of each side."""
        for axis in range(self.dim):
            others = [other for other in range(self.dim) if other != axis]
            for name, layer in ("min", 0), ("max", self.cells[axis]):
                yield f"{'xyz'[axis]}-{name}", self._split(others, layer * self.strides[axis])

    def _split(self, axes, first):
        least = np.full(1, first, dtype=np.int32)
        for axis in axes:
            least = (np.arange(self.cells[axis], dtype=np.int32)[:, None] * self.strides[axis] + least).ravel()
        corners = [sum(self.strides[axis] for k, axis in enumerate(axes) if bits >> k & 1) for bits in range(1 << len(axes))]
        offsets = np.array([[corners[bits] for bits in simplex] for simplex in PATTERNS[len(axes)]], dtype=np.int32)
        return (least[:, None, None] + offsets).reshape(-1, offsets.shape[1])


def write_shuffled(path, cells):
    """The box as a Gmsh file in random order: node numbers, the order of cells, and where a cell's nodes begin."""
    box, random = Box(cells), np.random.default_rng(1)
    dim = box.dim
    points = box.points()
    place = random.permutation(len(points))
    number = np.empty(len(points), dtype=np.uint64)
    number[place] = np.arange(1, len(points) + 1, dtype=np.uint64)
    # Element types of Gmsh: 1 a line, 2 a triangle, 4 a tetrahedron.
    kind = {1: 1, 2: 2, 3: 4}
    cells_of_box = random.permutation(box.simplices())
    # Cyclic shifts of the last three nodes of a tetrahedron, of all three of a triangle: the orientation stays.
    shift = random.integers(3, size=len(cells_of_box))
    turned = (np.arange(3) + shift[:, None]) % 3 + (dim - 2)
    cells_of_box[:, dim - 2 :] = np.take_along_axis(cells_of_box, turned, axis=1)
    blocks = [(dim, 1, cells_of_box)]
    names = [(dim, 1, "box")]
    for tag, (name, facets) in enumerate(box.sides(), start=1):
        blocks.append((dim - 1, tag, random.permutation(facets)))
        names.append((dim - 1, tag, name))
    n_elements = sum(len(nodes) for _, _, nodes in blocks)

    def entities(of_dim):
        # Tag, bounding box, one physical group of the same number, no bounding entities.
        box = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
        return b"".join(struct.pack("<i6dQiQ", tag, *box, 1, tag, 0) for d, tag, _ in names if d == of_dim)

    with open(path, "wb") as file:
        file.write(b"$MeshFormat\n4.1 1 8\n" + struct.pack("<i", 1) + b"\n$EndMeshFormat\n")
        listed = "".join(f'{d} {tag} "{name}"\n' for d, tag, name in names)
        file.write(f"$PhysicalNames\n{len(names)}\n{listed}$EndPhysicalNames\n".encode())
        counts = [sum(d == of_dim for d, _, _ in names) for of_dim in range(4)]
        file.write(b"$Entities\n" + struct.pack("<4Q", *counts))
        for of_dim in (1, 2, 3):
            file.write(entities(of_dim))
        file.write(b"\n$EndEntities\n$Nodes\n" + struct.pack("<4Q", 1, len(points), 1, len(points)))
        file.write(struct.pack("<3iQ", dim, 1, 0, len(points)))
        np.arange(1, len(points) + 1, dtype="<u8").tofile(file)
        points[place].astype("<f8").tofile(file)
        file.write(b"\n$EndNodes\n$Elements\n" + struct.pack("<4Q", len(blocks), n_elements, 1, n_elements))
        first = 1
        for of_dim, tag, nodes in blocks:
            file.write(struct.pack("<3iQ", of_dim, tag, kind[of_dim], len(nodes)))
            rows = np.empty((len(nodes), of_dim + 2), dtype="<u8")
            rows[:, 0] = np.arange(first, first + len(nodes))
            rows[:, 1:] = number[nodes]
            rows.tofile(file)
            first += len(nodes)
        file.write(b"\n$EndElements\n")


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    # Under its name only when it is whole: that says it is there.
    unfinished = target.with_suffix(".part")
    write_shuffled(unfinished, [int(n) for n in sys.argv[2:]])
    unfinished.rename(target)
