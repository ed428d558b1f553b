//! The solution's file where boundaries are periodic, on one rank and under mpirun.
//!
//! Start at `cells_at_a_seam_stay_small`; the other test starts it again by mpirun.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use cluster::Comm;
use femdd::case::Case;
use femdd::output::hdf;
use femdd::run::{Options, run_case};
use testing::Scratch;

/// Names the directory to write to under mpirun.
const INSIDE: &str = "FEMDD_TEST_SEAM_DIRECTORY";

/// MPI changes the environment of its process, which a process that is started meanwhile would inherit in part.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Opposite sides that are one to the solver are two to the eye: no cell stretches across the domain.
#[test]
fn cells_at_a_seam_stay_small() {
    let _turn = ONE_AT_A_TIME.lock();
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    let _petsc = femdd::solver::start(&comm).expect("PETSc starts");
    let alone = Scratch::new();
    let given = std::env::var_os(INSIDE).map(PathBuf::from);
    let directory = given.as_deref().unwrap_or(alone.path());
    for (shape, degree) in [("triangle", 1), ("quadrilateral", 2), ("triangle", 3)] {
        let text = format!(
            "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1], cells = [6, 6], shape = \"{shape}\" }}\n\
             [space]\ndegree = {degree}\n[physics]\nlaw = \"poisson\"\nsource = \"sin(2*pi*x)\"\nreaction = 1\n\
             [boundary.\"x-min\"]\nperiodic = {{ with = \"x-max\" }}\n\
             [boundary.\"y-min\"]\nperiodic = {{ with = \"y-max\" }}\n"
        );
        let mut case = Case::parse(&directory.join("seam.toml"), &text, &[]).expect("a case");
        case.output_dir = directory.join(format!("seam-{shape}-{degree}"));
        let options = Options { threads: 1, quiet: true, ..Options::default() };
        run_case(&comm, &case, &options).expect("a solution");
        let longest = longest_cell(&comm, &case.output_dir.join("solution.hdf"));
        assert!(longest < 1.01 / 6.0, "{shape}, degree {degree}: a cell is {longest} long");
        assert!(longest > 0.99 / 6.0, "{shape}, degree {degree}: all cells are short");
    }
}

#[test]
fn cells_at_a_seam_stay_small_under_mpirun() {
    let _turn = ONE_AT_A_TIME.lock();
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    for ranks in [2, 3] {
        let directory = Scratch::new();
        let mut command = testing::this_test("cells_at_a_seam_stay_small", ranks);
        command.env(INSIDE, directory.path());
        let ended = testing::finish(command, Duration::from_secs(60));
        assert!(ended.succeeded(), "{ranks} ranks: {}", ended.text());
    }
}

/// The longest extent of a cell of a solution along an axis.
fn longest_cell(comm: &Comm, path: &Path) -> f64 {
    let reader = hdf::open(comm, path).expect("a file");
    let whole = |name: &str, element, row| {
        let slot = reader.slot(&format!("VTKHDF/{name}"), element, row).expect("an array");
        reader.read(slot, 0, slot.len() / row).expect("its entries")
    };
    let hdf::Column::F64(points) = whole("Points", hdf::Element::F64, 3) else { panic!("points") };
    let hdf::Column::I32(connectivity) = whole("Connectivity", hdf::Element::I32, 1) else { panic!("cells") };
    let hdf::Column::I32(offsets) = whole("Offsets", hdf::Element::I32, 1) else { panic!("offsets") };
    let counts = ["NumberOfPoints", "NumberOfCells", "NumberOfConnectivityIds"];
    let counts = counts.map(|name| match whole(name, hdf::Element::I64, 1) {
        hdf::Column::I64(counts) => counts,
        _ => panic!("{name}"),
    });
    let (mut first, mut longest) = ([0usize; 3], 0.0f64);
    for part in 0..counts[0].len() {
        let n = [0, 1, 2].map(|k| counts[k][part] as usize);
        for ends in offsets[first[1] + part..][..n[1] + 1].windows(2) {
            let cell = &connectivity[first[2]..][ends[0] as usize..ends[1] as usize];
            for axis in 0..3 {
                let x = cell.iter().map(|&p| points[(first[0] + p as usize) * 3 + axis]);
                let (low, high) = x.fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
                longest = longest.max(high - low);
            }
        }
        (0..3).for_each(|k| first[k] += n[k]);
    }
    longest
}
