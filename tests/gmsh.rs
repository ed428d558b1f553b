//! Gmsh files read by 1 to 4 ranks: each test starts itself again under `mpirun`.
//!
//! What the parts of all ranks make up is compared with what one rank reads alone. Start at `under_mpi`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::Comm;
use femdd::mesh::gmsh::{self, GmshError};
use femdd::mesh::soup::Soup;
use testing::Scratch;

const RANKS: [usize; 4] = [1, 2, 3, 4];
const LIMIT: Duration = Duration::from_secs(120);
const INSIDE: &str = "FEMDD_TEST_DIRECTORY";

/// Counts what is allocated, to see that a damaged file cannot ask for memory.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were allocated at once during `work`, beyond what was before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// Runs `body` on each number of ranks in a fresh directory.
fn under_mpi(test: &str, body: fn(&Comm, &Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        let session = cluster::init().expect("MPI starts");
        body(&session.world(), Path::new(&directory));
        return;
    }
    for ranks in RANKS {
        let directory = Scratch::new();
        let mut command = testing::this_test(test, ranks);
        command.env(INSIDE, directory.path());
        let ended = testing::finish(command, LIMIT);
        assert!(ended.succeeded(), "{test} on {ranks} ranks: {}", ended.text());
    }
}

fn meshes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meshes")
}

/// All committed meshes, in one order.
fn committed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [meshes(), meshes().join("variants")] {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "msh") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 80, "tests/meshes is there");
    found
}

/// The parts of all ranks in one soup, the records of each array in ascending order.
fn gathered(comm: &Comm, soup: &Soup) -> Soup {
    let mut all = soup.clone();
    let rows = |parts: Vec<Vec<u64>>| -> Vec<Vec<u64>> {
        let mut rows = parts;
        rows.sort_unstable();
        rows
    };
    for block in &mut all.blocks {
        let n = block.geometry.n_nodes(block.shape);
        let nodes = comm.all_gather_varied(&block.nodes).0;
        let ids = comm.all_gather_varied(&block.ids).0;
        let sets = comm.all_gather_varied(&block.sets).0;
        let cells = (0..ids.len()).map(|k| {
            let head = [ids[k], u64::from(sets[k])];
            head.iter().chain(&nodes[k * n..][..n]).copied().collect()
        });
        let cells = rows(cells.collect());
        block.ids = cells.iter().map(|row| row[0]).collect();
        block.sets = cells.iter().map(|row| row[1] as u16).collect();
        block.nodes = cells.iter().flat_map(|row| row[2..].to_vec()).collect();
    }
    for block in &mut all.entities {
        let n = block.shape.n_vertices();
        let vertices = comm.all_gather_varied(&block.vertices).0;
        let groups = comm.all_gather_varied(&block.groups).0;
        let entities = (0..groups.len()).map(|k| {
            let mut row = vec![u64::from(groups[k])];
            row.extend_from_slice(&vertices[k * n..][..n]);
            row
        });
        let entities = rows(entities.collect());
        block.groups = entities.iter().map(|row| row[0] as u16).collect();
        block.vertices = entities.iter().flat_map(|row| row[1..].to_vec()).collect();
    }
    let ids = comm.all_gather_varied(&soup.node_ids).0;
    let points = comm.all_gather_varied(&soup.node_coordinates).0;
    let mut nodes: Vec<(u64, [f64; 3])> = ids.into_iter().zip(points).collect();
    nodes.sort_by_key(|node| node.0);
    (all.node_ids, all.node_coordinates) = nodes.into_iter().unzip();
    let pairs: Vec<[u64; 2]> = soup.periodic.iter().map(|pair| [pair.0, pair.1]).collect();
    all.periodic = comm.all_gather_varied(&pairs).0.into_iter().map(|pair| (pair[0], pair[1])).collect();
    all.periodic.sort_unstable();
    all
}

/// What all ranks read together is what this rank reads alone; so is an error.
fn check_against_one_rank(comm: &Comm, path: &Path) -> Result<Soup, GmshError> {
    let alone = comm.split(comm.rank() as i32, 0);
    let together = gmsh::read(comm, path);
    let whole = gmsh::read(&alone, path);
    match (&together, &whole) {
        (Ok(part), Ok(whole)) => {
            assert!(gathered(comm, part) == gathered(&alone, whole), "{}", path.display());
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        _ => panic!("{}: {together:?} on {} ranks, {whole:?} on one", path.display(), comm.size()),
    }
    together
}

#[test]
fn committed_meshes_are_the_same_on_any_number_of_ranks() {
    under_mpi("committed_meshes_are_the_same_on_any_number_of_ranks", |comm, _| {
        for path in committed() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let refused = ["prism", "tri10", "partitioned"].iter().any(|stem| name.starts_with(stem));
            match check_against_one_rank(comm, &path) {
                Err(_) => assert!(refused, "{name} is readable"),
                Ok(soup) => {
                    assert!(!refused, "{name} is not supported");
                    // Nodes are dealt out evenly.
                    let (n, most) =
                        (comm.sum(soup.node_ids.len() as u64), comm.max(soup.node_ids.len() as u64));
                    assert!(most <= n / comm.size() as u64 + 1, "{name}: {most} of {n}");
                }
            }
        }
    });
}

#[test]
fn the_bracket_has_its_groups() {
    under_mpi("the_bracket_has_its_groups", |comm, _| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bracket/bracket.msh");
        let soup = check_against_one_rank(comm, &path).expect("the example's mesh");
        for name in ["steel", "clamp", "top", "fillet", "base", "back"] {
            let group = soup.groups.iter().position(|g| g.name == name).expect(name) as u16;
            let cells =
                soup.blocks.iter().flat_map(|b| &b.sets).filter(|&&s| soup.sets[s as usize].contains(&group));
            let entities = soup.entities.iter().flat_map(|e| &e.groups).filter(|&&g| g == group);
            assert!(comm.sum((cells.count() + entities.count()) as u64) > 10, "{name}");
        }
    });
}

/// A square of n x n quadrilaterals as text: enough for several rounds of messages.
fn write_square(path: &Path, n: usize, version: u8) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    let (nodes, cells) = ((n + 1) * (n + 1), n * n);
    let mut text = String::new();
    let point =
        |k: usize| format!("{} {} 0\n", (k % (n + 1)) as f64 / n as f64, (k / (n + 1)) as f64 / n as f64);
    if version == 2 {
        text += &format!("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n{nodes}\n");
        (0..nodes).for_each(|k| text += &format!("{} {}", k + 1, point(k)));
        text += &format!("$EndNodes\n$Elements\n{cells}\n");
    } else {
        text +=
            &format!("$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\n1 {nodes} 1 {nodes}\n2 1 0 {nodes}\n");
        (0..nodes).for_each(|k| text += &format!("{}\n", k + 1));
        (0..nodes).for_each(|k| text += &point(k));
        text += &format!("$EndNodes\n$Elements\n1 {cells} 1 {cells}\n2 1 3 {cells}\n");
    }
    for k in 0..cells {
        let a = k / n * (n + 1) + k % n + 1;
        let tags = if version == 2 { "3 2 7 1 " } else { "" };
        text += &format!("{} {tags}{} {} {} {}\n", k + 1, a, a + 1, a + n + 2, a + n + 1);
    }
    text += "$EndElements\n";
    out.write_all(text.as_bytes()).expect("written");
}

#[test]
fn long_text_is_dealt_out_in_rounds() {
    under_mpi("long_text_is_dealt_out_in_rounds", |comm, directory| {
        for version in [2, 4] {
            let path = directory.join(format!("square-{version}.msh"));
            if comm.is_root() {
                write_square(&path, 400, version);
            }
            comm.barrier();
            let soup = check_against_one_rank(comm, &path).expect("a good file");
            let cells: u64 = soup.blocks.iter().map(|b| b.ids.len() as u64).sum();
            assert_eq!(comm.sum(cells), 160_000);
            assert!(comm.max(cells) <= 160_000 / comm.size() as u64 + 1);
            // The sum of node numbers, weighted by place: no record was lost, doubled or torn.
            let nodes: u64 = soup.blocks.iter().flat_map(|b| &b.nodes).sum();
            let expected: u64 = (0..160_000u64).map(|k| 4 * (k / 400 * 401 + k % 400 + 1) + 804).sum();
            assert_eq!(comm.sum(nodes), expected);
        }
    });
}

#[test]
fn damaged_files_neither_hang_nor_take_memory() {
    under_mpi("damaged_files_neither_hang_nor_take_memory", |comm, directory| {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let path = directory.join("damaged.msh");
        let names = ["periodic-square", "variants/tri3", "variants/line2", "variants/hex20"];
        for name in names {
            for variant in ["22-ascii", "22-binary", "41-ascii", "41-binary"] {
                let good = std::fs::read(meshes().join(format!("{name}-{variant}.msh"))).expect("committed");
                for _ in 0..if comm.size() == 1 { 200 } else { 12 } {
                    let mut bad = good.clone();
                    match random() % 3 {
                        0 => bad.truncate(random() as usize % bad.len()),
                        1 => {
                            let at = random() as usize % bad.len();
                            bad[at] = random() as u8;
                        }
                        _ => {
                            // A count or an identifier of eight large bytes.
                            let at = random() as usize % (bad.len() - 8);
                            bad[at..at + 8].copy_from_slice(&random().to_le_bytes());
                        }
                    }
                    if comm.is_root() {
                        std::fs::write(&path, &bad).expect("written");
                    }
                    comm.barrier();
                    let (result, bytes) = peak(|| gmsh::read(comm, &path));
                    assert!(bytes < 4 << 20, "{name}-{variant}: {bytes} bytes, {:?}", result.err());
                    // All ranks say the same.
                    let said = result.err().map_or("a mesh".to_string(), |e| e.to_string());
                    let mut first = said.clone().into_bytes();
                    comm.broadcast(0, &mut first);
                    assert_eq!(said.as_bytes(), first);
                }
            }
        }
    });
}

#[test]
fn a_missing_file_is_an_error_on_all_ranks() {
    under_mpi("a_missing_file_is_an_error_on_all_ranks", |comm, directory| {
        let error = gmsh::read(comm, &directory.join("none.msh")).expect_err("there is no file");
        assert!(matches!(error, GmshError::Io { .. }), "{error}");
    });
}
