#!/usr/bin/env bash
# What femdd needs from the system, in one place: the Debian packages, the Rust toolchain, the
# environment of MPI runs and the Python of the read-back tests.
#
# `start` and `test` source this file. Run by itself it installs the packages and checks the toolchain:
#
#     tools/packages.sh            install what is missing
#     tools/packages.sh --list     print the package list and stop

packages=(
    build-essential     # the linker, and the C compiler behind mpicc
    clang               # the headers that bindgen parses with
    libclang-dev        # bindgen itself
    pkg-config          # finds PETSc
    openmpi-bin         # mpirun
    libopenmpi-dev
    libpetsc-real-dev   # with hypre, MUMPS, SuperLU_DIST, ML, PT-Scotch, SuiteSparse
    libmetis-dev
    libhdf5-openmpi-dev
    libopenblas0        # Debian's default BLAS is the reference one, several times slower in MUMPS
    python3
    python3-venv        # ./test reads the output back with VTK
    ca-certificates     # cargo and pip
)
test_packages=(
    chromium            # reports are looked at
    valgrind            # the instructions of the kernels are counted
)
slurm_packages=(
    slurm-wlm           # ./test runs jobs in a SLURM of its own; FEMDD_SLURM=off goes without
    munge
    shellcheck          # ./test checks the batch scripts
)
full_packages=(
    libpetsc64-real-dev # ./test --full: PETSc with 64-bit indices
)

interactive=no
if [ -t 0 ]; then interactive=yes; fi

# A non-login shell does not know where rustup put cargo.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

fail() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 3
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Asks for sudo's password here, where the question can be seen. Without a terminal nobody can type
# one: fail at once instead of waiting.
may_install() {
    [ "$(id -u)" -eq 0 ] && return
    if command -v sudo >/dev/null 2>&1; then
        sudo -n true 2>/dev/null && return
        if [ "$interactive" = yes ] && sudo -v; then return; fi
    fi
    fail "only root may install packages, and sudo is not there or refuses" \
        "run as root: apt-get install --no-install-recommends ${missing[*]}"
}

find_missing_packages() {
    missing=()
    for package in "${packages[@]}"; do
        case "$(dpkg-query -W -f='[${db:Status-Status}]' "$package" 2>/dev/null)" in
            *"[installed]"*) ;;
            *) missing+=("$package") ;;
        esac
    done
}

# One apt-get for every call: no questions, and patience with a lock that another installation holds.
# `apt-get update` ignores DPkg::Lock::Timeout for its list lock, hence the loop around it.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a \
        apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o APT::Color=0 "$@" </dev/null
}

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
        echo "This system has no apt; femdd is tested on Debian 12. It expects the equivalents of:"
        echo "    ${packages[*]}"
        local tool
        for tool in cc clang pkg-config mpicc mpirun python3; do
            command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed"
        done
        return
    fi
    find_missing_packages
    if [ ${#missing[@]} -eq 0 ]; then
        echo "System packages: all ${#packages[@]} are installed."
        return
    fi
    echo "Installing with apt: ${missing[*]}"
    may_install
    local log attempt
    log=$(mktemp)
    for attempt in 1 2 3 4 5 6; do
        # A repository that does not answer need not matter to us: the installation decides.
        if apt_get -q update >"$log" 2>&1; then break; fi
        grep -q 'Could not get lock' "$log" || { cat "$log" >&2; break; }
        echo "waiting for another apt ($attempt of 6)"
        sleep 10
    done
    if ! apt_get -q -y install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "apt could not install: ${missing[*]}" "its last lines stand above"
    fi
    rm -f "$log"
    find_missing_packages
    [ ${#missing[@]} -eq 0 ] || fail "apt reported success, but these are still missing: ${missing[*]}"
    echo "Installed."
}

# check_toolchain [component...]: cargo of the version Cargo.toml asks for, and rustup components by the
# name of their cargo command (clippy, fmt).
check_toolchain() {
    command -v cargo >/dev/null 2>&1 || fail "cargo is not installed" "get a Rust toolchain: https://rustup.rs"
    local have need component
    have=$(rustc --version | cut -d' ' -f2) || fail "rustc does not run"
    need=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n1)
    if [ "$(printf '%s\n%s\n' "$need" "${have%%-*}" | sort -V | head -n1)" != "$need" ]; then
        fail "rustc is $have, femdd needs $need or later" "rustup update stable"
    fi
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 ||
            fail "cargo $component is not installed" "rustup component add clippy rustfmt"
    done
}

# Environment that builds and runs share.
prepare_environment() {
    # .cargo/config.toml says where x86-64 Debian keeps the MPI build of HDF5; elsewhere the directory
    # carries another triplet. Not set where the file is right: cargo would see another value than a
    # plain `cargo build` does, and build HDF5's bindings twice.
    if [ -z "${HDF5_DIR:-}" ]; then
        local configured triplet
        configured=$(sed -n 's/^HDF5_DIR = "\(.*\)"$/\1/p' .cargo/config.toml)
        if [ ! -d "$configured" ]; then
            triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || cc -print-multiarch)
            if [ -d "/usr/lib/$triplet/hdf5/openmpi" ]; then
                export HDF5_DIR="/usr/lib/$triplet/hdf5/openmpi"
            else
                fail "the MPI build of HDF5 was not found" "set HDF5_DIR to the directory that holds its include and lib"
            fi
        fi
    fi
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # A rank is a core: BLAS threads on top of ranks only take turns.
    export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
}

# A Python with VTK for the tests that read the output back: FEMDD_PYTHON if set, else a virtual
# environment in the target directory, made once for a given tools/requirements.txt.
prepare_python() {
    local imports='import numpy; from vtkmodules.vtkIOHDF import vtkHDFReader'
    if [ -n "${FEMDD_PYTHON:-}" ]; then
        "$FEMDD_PYTHON" -c "$imports" 2>/dev/null ||
            fail "FEMDD_PYTHON=$FEMDD_PYTHON cannot import numpy and vtk"
        export FEMDD_PYTHON
        return
    fi
    local venv python
    venv=$(realpath -m "${CARGO_TARGET_DIR:-target}")/test-python
    if ! cmp -s tools/requirements.txt "$venv/requirements.txt" || ! "$venv/bin/python" -c "$imports" 2>/dev/null; then
        # Debian's python3-venv serves Debian's own Python, not one that shadows it in PATH.
        python=/usr/bin/python3
        [ -x "$python" ] || python=python3
        echo "Python environment for the read-back tests: $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" || fail "$python -m venv failed" "install python3-venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 \
            --requirement tools/requirements.txt ||
            fail "pip could not install what tools/requirements.txt lists" \
                "set FEMDD_PYTHON to a Python that has numpy and vtk"
        "$venv/bin/python" -c "$imports" || fail "the VTK that pip installed does not load"
        cp tools/requirements.txt "$venv/requirements.txt"
    fi
    export FEMDD_PYTHON="$venv/bin/python"
}

# check_space TARGET SCRATCH: this many MiB for the target directory, less what it holds already, and for temporary
# files. Half-written libraries and logs give errors that say nothing of a full disk.
check_space() {
    local target have need where free i j
    target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    have=$(du -sm "$target" 2>/dev/null | cut -f1) || true
    # A quarter of it is made anew by any change.
    need=$(($1 - ${have:-0}))
    if [ "$need" -lt $(($1 / 4)) ]; then need=$(($1 / 4)); fi
    local places=("$target" "${TMPDIR:-/tmp}") needs=("$need" "$2") systems=() told=()
    for i in 0 1; do
        where=${places[i]}
        while [ ! -e "$where" ]; do where=$(dirname "$where"); done
        read -r systems[i] free < <(df --output=source,avail -m "$where" | tail -n1)
        told[i]=$free
    done
    # On one file system both must fit.
    if [ "${systems[0]}" = "${systems[1]}" ] && [ "${told[0]}" = "${told[1]}" ]; then
        needs=($((needs[0] + needs[1])) 0)
    fi
    for i in 0 1; do
        if [ "${told[i]:-0}" -lt "${needs[i]}" ]; then
            fail "too little disk space: ${places[i]} needs ${needs[i]} MiB and has ${told[i]:-0} MiB" \
                "make room there, or set CARGO_TARGET_DIR (what is built) or TMPDIR (temporary files) to a larger disk"
        fi
    done
}

# 754 -> "12 min 34 s"
duration() {
    if [ "$1" -ge 60 ]; then echo "$(($1 / 60)) min $(($1 % 60)) s"; else echo "$1 s"; fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    cd "$(dirname "$0")/.."
    case "${1:-}" in
        --list) printf '%s\n' "${packages[@]}" ;;
        "") install_packages && check_toolchain && prepare_environment ;;
        *) fail "unknown argument: $1" "tools/packages.sh [--list]" ;;
    esac
fi
