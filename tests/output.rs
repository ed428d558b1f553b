//! Files that ranks write together, on 1 to 4 ranks: each test starts itself again under `mpirun`.
//!
//! VTK reads the solution back where a Python with the package `vtk` is at hand: `FEMDD_PYTHON` names
//! it, `python3` otherwise. Without one those checks are skipped, and say so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::Comm;
use femdd::output::mesh_store::{self, StoredCells, StoredEntities, StoredGroup, StoredMesh};
use femdd::output::phases::{Phases, gather_memory, peak_memory};
use femdd::output::vtkhdf::{self, Cells, Field, Kind, Outline};
use femdd::output::{OutputError, hdf};
use testing::Scratch;

const RANKS: [usize; 4] = [1, 2, 3, 4];
const LIMIT: Duration = Duration::from_secs(60);
const INSIDE: &str = "FEMDD_TEST_DIRECTORY";

/// Runs `body` on each number of ranks in a fresh directory, then `after` here.
fn under_mpi(test: &str, body: fn(&Comm, &Path), after: impl Fn(usize, &Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        let session = cluster::init().expect("MPI starts");
        body(&session.world(), Path::new(&directory));
        return;
    }
    for ranks in RANKS {
        let directory = Scratch::new();
        launch(test, ranks, directory.path());
        after(ranks, directory.path());
    }
}

fn launch(test: &str, ranks: usize, directory: &Path) {
    let mut command = testing::this_test(test, ranks);
    command.env(INSIDE, directory);
    let ended = testing::finish(command, LIMIT);
    assert!(ended.succeeded(), "{test} on {ranks} ranks: {}", ended.text());
    assert!(!ended.text().contains("HDF5-DIAG"), "HDF5 prints its own errors:\n{}", ended.text());
}

fn read_back(file: &Path, options: &[&str]) -> Option<serde_json::Value> {
    let python = std::env::var("FEMDD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_vtk = Command::new(&python).args(["-c", "import vtkmodules.vtkIOHDF"]).output();
    if !has_vtk.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {python} has no vtk");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_vtkhdf.py");
    let output = Command::new(python).arg(script).arg(file).args(options).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// A grid of one kind of cells, held as arrays.
#[derive(Default)]
struct Arrays {
    points: Vec<[f64; 3]>,
    vtk_type: u8,
    corners: usize,
    connectivity: Vec<u32>,
    point_fields: Vec<(&'static str, usize, Vec<f64>)>,
    numbers: Option<Vec<i64>>,
    cell_fields: Vec<(&'static str, Result<Vec<i32>, i32>)>,
}

/// Hands rows of an array over.
fn rows<T: Copy + Sync>(values: &[T], width: usize) -> impl Fn(std::ops::Range<usize>, &mut [T]) + Sync {
    move |rows, out| out.copy_from_slice(&values[rows.start * width..rows.end * width])
}

impl Arrays {
    fn write(&self, comm: &Comm, path: &Path) -> Result<(), OutputError> {
        let n_cells = self.connectivity.len() / self.corners.max(1);
        let field = |name: &str, components, kind| Field { name: name.to_owned(), components, kind };
        let mut point_fields: Vec<Field> =
            self.point_fields.iter().map(|f| field(f.0, f.1, Kind::F64)).collect();
        point_fields.extend(self.numbers.iter().map(|_| field("number", 1, Kind::I64)));
        let kind =
            |values: &Result<Vec<i32>, i32>| values.as_ref().map_or_else(|v| Kind::Same(*v), |_| Kind::I32);
        let cell_fields: Vec<Field> = self.cell_fields.iter().map(|f| field(f.0, 1, kind(&f.1))).collect();
        let outline = Outline {
            n_points: self.points.len(),
            cells: &[Cells { vtk_type: self.vtk_type, n_points: self.corners, n_cells }],
            point_fields: &point_fields,
            cell_fields: &cell_fields,
        };
        let grid = vtkhdf::create(comm, path, &outline)?;
        let parts = || {
            grid.points(&rows(self.points.as_flattened(), 3))?;
            let corners = rows(&self.connectivity, self.corners);
            grid.cells(&|_, cells, out| corners(cells, out))?;
            for (k, (_, width, values)) in self.point_fields.iter().enumerate() {
                grid.point_field(k, &rows(values, *width))?;
            }
            if let Some(numbers) = &self.numbers {
                grid.point_field(self.point_fields.len(), &rows(numbers, 1))?;
            }
            for (k, (_, values)) in self.cell_fields.iter().enumerate() {
                if let Ok(values) = values {
                    grid.cell_field(k, &rows(values, 1))?;
                }
            }
            Ok(())
        };
        let written = parts();
        grid.finish(written)
    }
}

/// A row of unit cubes along x, two a rank, none on the last of several ranks.
fn cubes(comm: &Comm) -> Arrays {
    let empty = comm.size() > 1 && comm.rank() + 1 == comm.size();
    let n = if empty { 0 } else { 2 };
    let mut cubes = Arrays { vtk_type: 12, corners: 8, ..Arrays::default() };
    for i in 0..if empty { 0 } else { n + 1 } {
        let x = (2 * comm.rank() + i) as f64;
        cubes.points.extend([[x, 0.0, 0.0], [x, 1.0, 0.0], [x, 1.0, 1.0], [x, 0.0, 1.0]]);
    }
    for cell in 0..n as u32 {
        cubes.connectivity.extend((0..8).map(|k| 4 * cell + k));
    }
    let points = &cubes.points;
    cubes.point_fields = vec![
        ("u", 1, points.iter().map(|p| 2.0 * p[0] - p[1] + 3.0).collect()),
        ("displacement", 3, points.iter().flat_map(|p| [p[0], -p[2], 0.25]).collect()),
        ("stress", 9, points.iter().flat_map(|p| (0..9).map(move |k| p[0] + f64::from(k))).collect()),
    ];
    cubes.numbers = Some((0..points.len() as i64).map(|k| (1 << 40) + k).collect());
    let rank = comm.rank() as i32;
    cubes.cell_fields = vec![
        ("rank", Err(rank)),
        ("region", Err(7)),
        // The same on some ranks, not on all.
        ("mixed", if rank == 0 { Ok((0..n as i32).collect()) } else { Err(5) }),
    ];
    cubes
}

fn write_cubes(comm: &Comm, path: &Path) -> Result<(), OutputError> {
    cubes(comm).write(comm, path)
}

#[test]
fn vtk_reads_what_every_rank_wrote() {
    fn body(comm: &Comm, directory: &Path) {
        write_cubes(comm, &directory.join("solution.hdf")).expect("writes");
        // Again, over the first.
        write_cubes(comm, &directory.join("solution.hdf")).expect("writes over it");
    }
    under_mpi("vtk_reads_what_every_rank_wrote", body, |ranks, directory| {
        let names: Vec<_> =
            std::fs::read_dir(directory).expect("lists").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["solution.hdf"], "nothing else stays behind");
        let options = ["--at=0.75,0.5,0.25", "--at=-1,0,0", "--integrate"];
        let Some(found) = read_back(&directory.join("solution.hdf"), &options) else { return };
        let filled = if ranks == 1 { 1 } else { ranks - 1 };
        assert_eq!(found["n_points"], 12 * filled);
        assert_eq!(found["n_cells"], 2 * filled);
        assert_eq!(found["cell_types"], serde_json::json!({"12": 2 * filled}));
        let partitions = found["partitions"].as_array().expect("partitions");
        assert_eq!(partitions.len(), ranks);
        for (rank, partition) in partitions.iter().enumerate() {
            let n = if rank < filled { 2 } else { 0 };
            assert_eq!(*partition, serde_json::json!({"points": 6 * n, "cells": n}), "rank {rank}");
        }
        let length = 2.0 * filled as f64;
        assert_eq!(found["point_data"]["u"]["min"][0], 2.0);
        assert_eq!(found["point_data"]["u"]["max"][0], 2.0 * length + 3.0);
        assert_eq!(found["point_data"]["displacement"]["min"], serde_json::json!([0.0, -1.0, 0.25]));
        assert_eq!(found["point_data"]["stress"]["components"], 9);
        assert_eq!(found["point_data"]["stress"]["max"][8], length + 8.0);
        assert_eq!(found["point_data"]["number"]["max"][0], (1u64 << 40) as f64 + 11.0);
        assert_eq!(found["cell_data"]["rank"]["max"][0], filled as f64 - 1.0);
        let sums = ["rank", "region", "mixed"].map(|name| found["cell_data"][name]["sum"][0].clone());
        let others = (filled - 1) as f64;
        assert_eq!(sums, [others * filled as f64, 14.0 * filled as f64, 1.0 + 10.0 * others]);
        assert_eq!(found["probes"][1]["valid"], false);
        assert_eq!(found["probes"][0]["valid"], true);
        let near = |value: &serde_json::Value, expected: f64| {
            let value = value.as_f64().expect("a number");
            assert!((value - expected).abs() < 1e-10, "{value} is not {expected}");
        };
        near(&found["probes"][0]["values"]["u"][0], 4.0);
        near(&found["integral"]["measure"], length);
        near(&found["integral"]["point_data"]["u"][0], length * (length + 2.5));
    });
}

#[test]
fn curved_cells_pass_through() {
    /// One Lagrange triangle of degree 3 a rank: corners, edges, interior, in VTK's order.
    fn body(comm: &Comm, directory: &Path) {
        let x = 2.0 * comm.rank() as f64;
        let third = 1.0 / 3.0;
        let at = |r: f64, s: f64| [x + r, s, 0.0];
        let points = [
            at(0.0, 0.0),
            at(1.0, 0.0),
            at(0.0, 1.0),
            at(third, 0.0),
            at(2.0 * third, 0.0),
            at(2.0 * third, third),
            at(third, 2.0 * third),
            at(0.0, 2.0 * third),
            at(0.0, third),
            at(third, third),
        ];
        let u: Vec<f64> = points.iter().map(|p| (p[0] - x).powi(3) + p[1] * p[1]).collect();
        let grid = Arrays {
            points: points.to_vec(),
            vtk_type: 69,
            corners: 10,
            connectivity: (0..10).collect(),
            point_fields: vec![("u", 1, u)],
            ..Arrays::default()
        };
        grid.write(comm, &directory.join("curved.hdf")).expect("writes");
    }
    under_mpi("curved_cells_pass_through", body, |ranks, directory| {
        let Some(found) = read_back(&directory.join("curved.hdf"), &["--at=0.5,0.2,0"]) else { return };
        assert_eq!(found["cell_types"], serde_json::json!({"69": ranks}));
        assert_eq!(found["n_points"], 10 * ranks);
        let value = found["probes"][0]["values"]["u"][0].as_f64().expect("a number");
        assert!((value - 0.165).abs() < 1e-10, "a cubic is exact on a cubic cell, not {value}");
    });
}

#[test]
fn all_ranks_hear_of_arrays_that_do_not_fit() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("bad.hdf");
        let last = comm.size() - 1;
        let far = if comm.rank() == last { 2 } else { 1 };
        let mut grid = Arrays {
            points: vec![[0.0; 3], [1.0, 0.0, 0.0]],
            vtk_type: 3,
            corners: 2,
            connectivity: vec![0, far],
            ..Arrays::default()
        };
        let error = grid.write(comm, &path).expect_err("a point too many");
        let what = "a cell names point 2 of 2".to_owned();
        assert_eq!(error, OutputError::Shape { rank: last, what });
        comm.barrier();
        assert!(!path.exists() && !directory.join("bad.hdf.part").exists());
        comm.barrier();

        let name = if comm.rank() == last && last > 0 { "v" } else { "u" };
        grid.connectivity = vec![0, 1];
        grid.point_fields = vec![(name, 1, vec![0.0, 1.0])];
        let result = grid.write(comm, &path);
        if last == 0 {
            result.expect("one rank agrees with itself");
        } else {
            assert!(matches!(result, Err(OutputError::Shape { rank, .. }) if rank == last), "{result:?}");
            assert!(!path.exists());
        }
    }
    under_mpi("all_ranks_hear_of_arrays_that_do_not_fit", body, |_, _| ());
}

#[test]
fn a_missing_directory_is_an_error_on_all_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let error =
            write_cubes(comm, &directory.join("nowhere/solution.hdf")).expect_err("no such directory");
        assert!(matches!(error, OutputError::NotWritable { .. }), "{error}");
        // A directory of the file's name: the layout succeeds, the renaming does not.
        let path = directory.join("taken.hdf");
        if comm.is_root() {
            std::fs::create_dir_all(path.join("inside")).expect("makes it");
        }
        comm.barrier();
        write_cubes(comm, &path).expect_err("a directory is in the way");
        assert!(!directory.join("taken.hdf.part").exists());
    }
    under_mpi("a_missing_directory_is_an_error_on_all_ranks", body, |_, _| ());
}

/// A file system of one MiB, where this machine allows one.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Small(at.to_path_buf()));
        }
        eprintln!("skipped: mounting a tmpfs is not allowed here");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_an_error_on_all_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("big.hdf");
        let grid = Arrays { points: vec![[0.0; 3]; 60_000], corners: 1, ..Arrays::default() };
        let error = grid.write(comm, &path).expect_err("no room");
        let OutputError::DiskFull { needed, available, .. } = error else { panic!("{error}") };
        assert!(needed > comm.size() as u64 * 24 * 60_000 && available.is_some_and(|a| a <= 1 << 20));
        assert!(!path.exists() && !directory.join("big.hdf.part").exists());
        write_cubes(comm, &directory.join("small.hdf")).expect("there is room for little");

        // Full to the last byte: not even the layout fits.
        if comm.is_root() {
            std::fs::write(directory.join("ballast"), vec![1u8; 1 << 20]).expect_err("fills it");
        }
        comm.barrier();
        let error = write_cubes(comm, &directory.join("small2.hdf")).expect_err("no room at all");
        assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
        write_cubes(comm, &directory.join("small.hdf")).expect_err("no room beside the old one");
        assert!(directory.join("small.hdf").exists(), "the old file stays");
    }
    if std::env::var_os(INSIDE).is_some() {
        return under_mpi("a_full_disk_is_an_error_on_all_ranks", body, |_, _| ());
    }
    for ranks in RANKS {
        let directory = Scratch::new();
        let Some(_small) = Small::mount(directory.path()) else { return };
        launch("a_full_disk_is_an_error_on_all_ranks", ranks, directory.path());
    }
}

#[test]
fn a_failing_write_is_an_error_on_all_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("late.hdf");
        let mut layout = hdf::Layout::new();
        let n = 1000;
        let slot = layout.dataset("x", hdf::Element::F64, &[n * comm.size() as u64]);
        let mut writer = hdf::create(comm, &path, layout, true).expect("room for the layout");
        writer.put(slot, n * comm.rank() as u64, hdf::Column::F64(vec![1.0; n as usize]));
        // Space is reserved, so a full disk cannot be had here: no rank finds the file.
        if comm.is_root() {
            std::fs::remove_file(directory.join("late.hdf.part")).expect("removes it");
            std::fs::create_dir(directory.join("late.hdf.part")).expect("puts a directory there");
        }
        comm.barrier();
        let error = writer.start().finish().expect_err("there is nothing to write to");
        assert_eq!(
            comm.all_gather(error.to_string().len() as u64),
            vec![error.to_string().len() as u64; comm.size()]
        );
        assert!(!path.exists());
    }
    under_mpi("a_failing_write_is_an_error_on_all_ranks", body, |_, _| ());
}

/// A mesh of two shapes over the ranks, one node a cell of its own; the last of several ranks has none.
fn stored(comm: &Comm) -> StoredMesh {
    let (rank, ranks) = (comm.rank() as u64, comm.size() as u64);
    let n = if ranks > 1 && rank + 1 == ranks { 0 } else { 5 + 3 * rank };
    let id = |k: u64| 1000 * (rank + 1) + k;
    let cells = |shape: u8, nodes_per_cell: usize, n: u64| StoredCells {
        shape,
        geometry: shape + 1,
        nodes_per_cell,
        nodes: (0..n * nodes_per_cell as u64).map(|k| id(k) + (1 << 50)).collect(),
        ids: (0..n).map(id).collect(),
        sets: (0..n).map(|k| (k % 3) as u16).collect(),
        owners: (0..n).map(|k| (k % 7) as u32).collect(),
    };
    StoredMesh {
        dim: 3,
        hash: "0123abcd".to_owned(),
        blocks: vec![cells(4, 4, n), cells(7, 27, n / 2), cells(9, 6, 0)],
        entities: vec![StoredEntities {
            shape: 2,
            vertices_per_entity: 3,
            vertices: (0..3 * n).map(id).collect(),
            groups: (0..n).map(|k| (k % 2) as u16).collect(),
        }],
        node_ids: (0..n).map(id).collect(),
        coordinates: (0..n).map(|k| [id(k) as f64 / 3.0, -0.0, 1e-300 * k as f64]).collect(),
        max_node_id: 1 << 51,
        groups: vec![
            StoredGroup { dim: 2, tag: 1, name: "clamp \"é\"".to_owned() },
            StoredGroup { dim: 3, tag: -2, name: "x".repeat(100_000) },
        ],
        sets: vec![vec![], vec![1], vec![0, 1]],
        periodic: if rank == 0 { vec![[5, 6], [7, 8]] } else { Vec::new() },
        n_parts: 7,
    }
}

/// Every table of all ranks, one after the other.
fn whole(comm: &Comm, mesh: &StoredMesh) -> Vec<Vec<u64>> {
    let mut tables = Vec::new();
    for b in &mesh.blocks {
        let sets: Vec<u64> = b.sets.iter().map(|&s| s.into()).collect();
        let owners: Vec<u64> = b.owners.iter().map(|&o| o.into()).collect();
        tables.extend([b.nodes.clone(), b.ids.clone(), sets, owners]);
    }
    for b in &mesh.entities {
        tables.extend([b.vertices.clone(), b.groups.iter().map(|&g| g.into()).collect()]);
    }
    let coordinates = mesh.coordinates.iter().flatten().map(|x| x.to_bits()).collect();
    tables.extend([mesh.node_ids.clone(), coordinates, mesh.periodic.iter().flatten().copied().collect()]);
    tables.iter().map(|table| comm.all_gather_varied(table).0).collect()
}

#[test]
fn a_stored_mesh_comes_back_on_any_number_of_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("mesh.h5");
        let mesh = stored(comm);
        assert_eq!(mesh_store::read(comm, &path, &mesh.hash), Ok(None), "there is no file yet");
        mesh_store::load(comm, &path).expect_err("there is no file yet");
        mesh_store::write(comm, &path, &mesh).expect("writes");
        assert_eq!(mesh_store::read(comm, &path, "another"), Ok(None));
        let back = mesh_store::read(comm, &path, &mesh.hash).expect("reads").expect("the hash is right");
        assert_eq!(back, mesh);
        let expected = whole(comm, &mesh);
        for ranks in 1..comm.size() {
            let inside = comm.rank() < ranks;
            let few = comm.split(i32::from(inside), 0);
            if inside {
                let back = mesh_store::load(&few, &path).expect("reads");
                assert_eq!(whole(&few, &back), expected, "written by {}, read by {ranks}", comm.size());
                let n: u64 = few.sum(back.node_ids.len() as u64);
                assert!((back.node_ids.len() as u64).abs_diff(n / ranks as u64) <= 1, "equal shares");
                assert_eq!(
                    (back.groups, back.sets, back.n_parts),
                    (mesh.groups.clone(), mesh.sets.clone(), 7)
                );
            }
            comm.barrier();
        }
        // And by more ranks than wrote it.
        let alone = comm.split(comm.rank() as i32, 0);
        let small = stored(&alone);
        if comm.is_root() {
            mesh_store::write(&alone, &path, &small).expect("writes over it");
        }
        comm.barrier();
        let back = mesh_store::load(comm, &path).expect("reads");
        assert_eq!(whole(comm, &back), whole(&alone, &small));
    }
    under_mpi("a_stored_mesh_comes_back_on_any_number_of_ranks", body, |_, _| ());
}

#[test]
fn a_damaged_mesh_is_an_error_on_all_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("mesh.h5");
        mesh_store::write(comm, &path, &stored(comm)).expect("writes");
        let sound = std::fs::read(&path).expect("reads");
        comm.barrier();
        let restore = |bytes: &[u8]| {
            comm.barrier();
            if comm.is_root() {
                std::fs::write(&path, bytes).expect("writes");
            }
            comm.barrier();
        };
        let names = [
            ("cells/0/nodes", hdf::Element::U64, 4),
            ("cells/1/sets", hdf::Element::U16, 1),
            ("cells/0/owners", hdf::Element::U32, 1),
            ("entities/0/vertices", hdf::Element::U64, 3),
            ("nodes/coordinates", hdf::Element::F64, 3),
            ("periodic", hdf::Element::U64, 2),
            ("description", hdf::Element::U8, 1),
            ("ranks", hdf::Element::U64, 12),
        ];
        for (name, element, row) in names {
            let reader = hdf::open(comm, &path).expect("opens");
            let slot = reader.slot(name, element, row).expect("is there");
            let last =
                slot.offset.expect("has an offset") as usize + slot.len() as usize * element.size() - 1;
            for place in [slot.offset.expect("has an offset") as usize, last] {
                let mut damaged = sound.clone();
                damaged[place] ^= 0x40;
                restore(&damaged);
                let error = mesh_store::load(comm, &path).expect_err(name);
                assert!(matches!(error, OutputError::Corrupt { .. }), "{name}: {error}");
            }
            restore(&sound);
        }
        for length in [sound.len() - 1, sound.len() / 2, 100, 0] {
            restore(&sound[..length]);
            let error = mesh_store::load(comm, &path).expect_err("cut short");
            assert!(
                matches!(error, OutputError::Corrupt { .. } | OutputError::Hdf5 { .. }),
                "{length}: {error}"
            );
        }
        restore(b"$MeshFormat\n2.2 0 8\n");
        mesh_store::read(comm, &path, "0123abcd").expect_err("a file of another kind");
        write_cubes(comm, &path).expect("writes");
        let error = mesh_store::load(comm, &path).expect_err("a solution, not a mesh");
        assert!(matches!(error, OutputError::Format { .. }), "{error}");
    }
    under_mpi("a_damaged_mesh_is_an_error_on_all_ranks", body, |_, _| ());
}

#[test]
fn the_hash_of_a_file_is_the_same_on_any_number_of_ranks() {
    fn body(comm: &Comm, directory: &Path) {
        let path = directory.join("big.msh");
        let mut bytes: Vec<u8> =
            (0..9_500_001u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let write = |bytes: &[u8]| {
            comm.barrier();
            if comm.is_root() {
                std::fs::write(&path, bytes).expect("writes");
            }
            comm.barrier();
        };
        write(&bytes);
        let hash = mesh_store::hash_file(comm, &path).expect("reads");
        let alone = comm.split(comm.rank() as i32, 0);
        assert_eq!(mesh_store::hash_file(&alone, &path).expect("reads"), hash);
        assert_eq!(hash.len(), 32);
        bytes[9_500_000] ^= 1;
        write(&bytes);
        assert_ne!(mesh_store::hash_file(comm, &path).expect("reads"), hash);
        write(&[]);
        mesh_store::hash_file(comm, &path).expect("an empty file has a hash");
        mesh_store::hash_file(comm, &directory.join("nowhere")).expect_err("there is none");
    }
    under_mpi("the_hash_of_a_file_is_the_same_on_any_number_of_ranks", body, |_, _| ());
}

#[test]
fn phases_of_all_ranks_are_gathered() {
    fn body(comm: &Comm, _: &Path) {
        let mut phases = Phases::new();
        phases.add("mesh", 1.0 + comm.rank() as f64);
        if comm.rank() + 1 == comm.size() {
            phases.add("rescue", 2.0);
        }
        phases.add("solve", 0.5);
        let rows = phases.gather(comm);
        let (last, ranks) = (comm.size() as f64 - 1.0, comm.size() as f64);
        let row = |name: &str| rows.iter().find(|r| r.name == name).expect("is there");
        let mesh = row("mesh");
        assert_eq!((mesh.min, mesh.mean, mesh.max), (1.0, 1.0 + last / 2.0, 1.0 + last));
        let rescue = row("rescue");
        assert_eq!((rescue.mean, rescue.max, rows.len()), (2.0 / ranks, 2.0, 3));
        assert_eq!(rescue.min, if comm.size() == 1 { 2.0 } else { 0.0 });
        let memory = gather_memory(comm, peak_memory());
        assert!(
            memory.max_rank > 1.0 && memory.sum >= memory.max_rank && memory.sum <= memory.max_rank * ranks
        );
    }
    under_mpi("phases_of_all_ranks_are_gathered", body, |_, _| ());
}
