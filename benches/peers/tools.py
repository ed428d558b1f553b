"""What the runner needs from the machine: packages, a virtual environment, femdd itself, and what the machine is.

Standard library only. Every function that finds something missing raises `Missing` with what to do about it.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess

from problem import cache_folder

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Debian's Python: DOLFINx is built for it, and python3-venv serves it.
SYSTEM_PYTHON = "/usr/bin/python3"

# What the gmsh of PyPI loads.
GMSH_PACKAGES = ["libglu1-mesa", "libgl1", "libxcursor1", "libxinerama1", "libxft2", "libxrender1"]


class Missing(Exception):
    """Something that is not there, and how to get it."""


def environment():
    """The environment of every program that is measured: no threads but those that are asked for. Values
    that are set already win."""
    defaults = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Containers forbid one process to read another's memory, and Open MPI 4 fails on it.
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    }
    if os.geteuid() == 0:
        defaults |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return defaults | dict(os.environ)


def packages(names, install):
    """Makes sure of Debian packages. They are installed by root, or by sudo if `install` says so.

    Raises Missing where that is not possible.
    """
    if not shutil.which("dpkg-query"):
        return  # Not Debian: whoever needs them finds out.
    def lacking():
        status = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *names]
        shown = subprocess.run(status, capture_output=True, text=True).stdout.splitlines()
        return [name for name in names if f"{name} installed" not in shown]

    absent = lacking()
    if not absent:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
    if os.geteuid() != 0:
        if not install:
            raise Missing(f"packages are missing; run as root: {' '.join(command)}; or give --install to use sudo")
        command = ["sudo", *command]
    print("installing: " + " ".join(absent), flush=True)
    update = [*command[: command.index("apt-get")], "apt-get", "update", "-qq"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(update, env=quiet, capture_output=True)
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode != 0 or lacking():
        raise Missing(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def virtual_environment(install):
    """The Python of the virtual environment with what requirements.txt lists; made once for each such list."""
    wanted = HERE / "requirements.txt"
    folder = cache_folder() / "venv"
    python, made = folder / "bin" / "python", folder / "requirements.txt"
    if python.exists() and made.exists() and made.read_text() == wanted.read_text():
        return str(python)
    packages(["python3-venv"], install)
    print(f"making the virtual environment {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    steps = [
        [SYSTEM_PYTHON, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(wanted)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{' '.join(step)} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    made.write_text(wanted.read_text())
    return str(python)


def build_femdd(install):
    """Builds femdd and returns the program's path."""
    packages_first = "install_packages; " if install or os.geteuid() == 0 else ""
    script = f"set -e; . tools/packages.sh; {packages_first}check_toolchain; prepare_environment; cargo build --release --locked"
    if subprocess.run(["bash", "-c", script], cwd=ROOT).returncode != 0:
        raise Missing("femdd was not built; the reason stands above (./start installs what it needs)")
    return pathlib.Path(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release", "femdd")


def dolfinx(install):
    """Makes sure that Debian's DOLFINx 0.5 is there; returns the version."""
    packages(["python3-dolfinx", "mpi-default-bin", "gcc", "python3-dev"], install)
    ask = [SYSTEM_PYTHON, "-c", "import tomllib, dolfinx, petsc4py; print(dolfinx.__version__)"]
    done = subprocess.run(ask, capture_output=True, text=True, env=environment())
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Missing(f"{SYSTEM_PYTHON} does not load DOLFINx ({reason}); Debian 12 has it as python3-dolfinx")
    version = done.stdout.strip()
    if not version.startswith("0.5."):
        raise Missing(f"DOLFINx is {version}; dolfinx_peer.py is written for 0.5, that of Debian 12")
    return version


def dealii(install):
    """Compiles dealii_peer.cc with Debian's deal.II 9.4; returns the program's path and the version."""
    packages(["libdeal.ii-dev", "mpi-default-bin", "g++", "pkg-config"], install)
    header = pathlib.Path("/usr/include/deal.II/base/config.h")
    if not header.exists():
        raise Missing("there is no deal.II; Debian 12 has it as libdeal.ii-dev")
    config = header.read_text()
    version = config.split('DEAL_II_PACKAGE_VERSION "', 1)[1].split('"', 1)[0]
    for feature in ("DEAL_II_WITH_P4EST", "DEAL_II_WITH_PETSC"):
        if f"#define {feature}\n" not in config:
            raise Missing(f"deal.II {version} is built without {feature}")
    petsc = subprocess.run(["pkg-config", "--cflags", "PETSc"], capture_output=True, text=True)
    if petsc.returncode != 0:
        raise Missing(f"pkg-config finds no PETSc: {petsc.stderr.strip()}")
    # deal.II's headers include those of Trilinos and HDF5; its library names what it needs.
    source = HERE / "dealii_peer.cc"
    flags = ["-std=c++17", "-O3", "-march=native", "-DNDEBUG", "-w", *petsc.stdout.split()]
    flags += ["-I/usr/include/trilinos", "-I/usr/include/hdf5/openmpi"]
    key = "\0".join([source.read_text(), version, processor(), *flags])
    program = cache_folder() / f"dealii-peer-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        print(f"compiling {source.name}", flush=True)
        made = program.with_suffix(".new")
        command = ["mpicxx", *flags, str(source), "-o", str(made), "-Wl,--copy-dt-needed-entries", "-ldeal.ii"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{source.name} does not compile: {done.stderr.strip()[-600:]}")
        made.rename(program)
    return program, version


def perforated_mesh(cells, install):
    """The Gmsh and the XDMF file of file3d-p1 with about that many tetrahedra."""
    import make_mesh

    packages(GMSH_PACKAGES, install)
    msh, xdmf = make_mesh.paths(cache_folder(), cells)
    if not (msh.exists() and xdmf.exists()):
        python = virtual_environment(install)
        print(f"making {msh}", flush=True)
        done = subprocess.run(
            [python, str(HERE / "make_mesh.py"), "--cells", str(cells), "--folder", str(cache_folder())],
            capture_output=True, text=True,
        )
        if done.returncode != 0:
            raise Missing(f"make_mesh.py failed: {done.stderr.strip()[-300:]}")
        print(done.stdout.splitlines()[0], flush=True)
    return msh, xdmf


def shuffled_box(cells, install):
    """A Gmsh file of the unit box in random order."""
    path = cache_folder() / f"shuffled-{'x'.join(map(str, cells))}.msh"
    if not path.exists():
        print(f"making {path}", flush=True)
        command = [virtual_environment(install), str(HERE / "box_mesh.py"), str(path), *map(str, cells)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"box_mesh.py failed: {done.stderr.strip()[-300:]}")
    return path


def bandwidth(threads):
    """The memory bandwidth of that many threads in GB/s, or None without a C compiler."""
    program = cache_folder() / "bandwidth"
    source = HERE / "bandwidth.c"
    program.parent.mkdir(parents=True, exist_ok=True)
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        build = ["cc", "-O3", "-march=native", "-fopenmp", str(source), "-o", str(program)]
        if not shutil.which("cc") or subprocess.run(build, capture_output=True).returncode != 0:
            return None
    alone = environment() | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([str(program)], env=alone, capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


def processor():
    """The processor's name."""
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown processor"


def machine():
    """What the figures were measured on, in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": processor(),
        "cores": cores,
        "memory_gib": round(memory, 1),
        "bandwidth_gb_s": {str(threads): bandwidth(threads) for threads in dict.fromkeys((1, cores))},
    }
