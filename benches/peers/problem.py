"""The problem of a case file as the peer programs need it: one source for femdd and its peers.

Standard library only (Python 3.11 or later for tomllib). Start at `Problem`.
"""

import dataclasses
import json
import math
import os
import pathlib
import tomllib


@dataclasses.dataclass
class Problem:
    """What is solved; `to_json` and `from_json` carry it to a peer program.

    A mesh is a unit box of `cells` along each axis (triangles, or six tetrahedra a cube), or a file if `cells`
    is empty.
    """

    name: str
    law: str
    dim: int
    degree: int
    cells: list
    source: object
    value: object
    exact: str | None
    clamped: list
    young: float
    poisson_ratio: float
    tolerance: float
    mesh_file: str | None = None

    @staticmethod
    def read(path, scale=1.0):
        """The problem in a case file, with `scale` times as many cells along each axis of a box."""
        path = pathlib.Path(path)
        case = tomllib.loads(path.read_text())
        mesh, physics = case["mesh"], case["physics"]
        box = mesh.get("box")
        boundary = list(case["boundary"].values())
        if len(boundary) != 1:
            raise ValueError(f"{path}: the peers know problems with one essential condition, not {len(boundary)}")
        if box and (any(size != 1.0 for size in box["size"]) or "origin" in box):
            raise ValueError(f"{path}: the peers know unit boxes only")
        law = physics["law"]
        return Problem(
            name=path.stem,
            law=law,
            dim=len(box["cells"]) if box else 3,
            degree=case.get("space", {}).get("degree", 1),
            cells=[max(2, round(n * scale)) for n in box["cells"]] if box else [],
            source=physics["body_force" if law == "elasticity" else "source"],
            value=boundary[0]["displacement" if law == "elasticity" else "value"],
            exact=case.get("exact", {}).get("value"),
            clamped=boundary[0].get("on", []),
            young=float(physics.get("young", 1.0)),
            poisson_ratio=float(physics.get("poisson_ratio", 0.0)),
            tolerance=float(case.get("solver", {}).get("tolerance", 1e-8)),
        )

    def to_json(self):
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text):
        return Problem(**json.loads(text))

    @property
    def whole_boundary(self):
        """Whether the condition holds on all sides of the box (or the whole surface of a file's mesh)."""
        return not self.cells or len(self.clamped) == 2 * self.dim


def evaluate(expression, coordinates, functions):
    """The value of an expression of a case file at `coordinates` (up to three), with sin, cos, exp and sqrt
    taken from the module `functions`: numpy, ufl, ngsolve."""
    names = {name: getattr(functions, name) for name in ("sin", "cos", "exp", "sqrt")}
    names |= dict(zip("xyz", coordinates)) | {"pi": math.pi}
    return eval(str(expression).replace("^", "**"), names)


def peak_memory_mb():
    """The largest resident memory of this process so far, in MiB."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")


def cache_folder():
    """Where meshes, the virtual environment and compiled kernels are kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "femdd-bench"
