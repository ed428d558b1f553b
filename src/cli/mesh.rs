//! `femdd mesh`: look at meshes, generate, convert and partition them, in parallel under a launcher.
//!
//! Imports `run` and the rooms of the mesh. Start at [`main`]; `mesh_info` has what `info` prints.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cluster::Comm;
use cluster::words::grouped;

use super::{check_exists, launch, mesh_info};
use crate::case::Case;
use crate::element::Shape;
use crate::mesh::Mesh;
use crate::mesh::boxes::{self, BoxSpec};
use crate::mesh::draft::Draft;
use crate::output::phases::Phases;
use crate::run::{Kind, RunError, mesh, mesh_files};

/// What `femdd mesh` can do.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Say what a mesh file, or the mesh of a case, consists of.
    Info(InfoArgs),
    /// Generate a box.
    Generate(GenerateArgs),
    /// Convert a Gmsh file to HDF5, which many ranks read fast.
    Convert(ConvertArgs),
    /// Partition a mesh, so that a run on as many ranks need not.
    Partition(PartitionArgs),
}

/// What `femdd mesh info` takes.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A mesh file (Gmsh, or HDF5 of femdd), or a case file (.toml).
    file: PathBuf,
    /// Multiplies coordinates; of a case, its own scale holds.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = positive)]
    scale: f64,
    /// Set a key of the case; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
}

/// What `femdd mesh generate` takes.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Lengths of the sides, one for each dimension.
    #[arg(long, value_delimiter = ',', required = true, num_args = 1, value_name = "X,Y,Z", value_parser = positive)]
    size: Vec<f64>,
    /// Cells along each side.
    #[arg(long, value_delimiter = ',', required = true, num_args = 1, value_name = "NX,NY,NZ")]
    cells: Vec<u64>,
    /// interval; triangle or quadrilateral; tetrahedron or hexahedron [default: simplices]
    #[arg(long, value_parser = shape)]
    shape: Option<Shape>,
    /// The lowest corner [default: 0]
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "X,Y,Z", allow_hyphen_values = true)]
    origin: Vec<f64>,
    /// The file to write (.h5).
    out: PathBuf,
}

/// What `femdd mesh convert` takes.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The mesh to read.
    file: PathBuf,
    /// The file to write (.h5).
    out: PathBuf,
    /// Multiplies coordinates.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = positive)]
    scale: f64,
}

/// What `femdd mesh partition` takes.
#[derive(Debug, Args)]
pub struct PartitionArgs {
    /// The mesh to read.
    file: PathBuf,
    /// How many parts; the ranks that run this need not be as many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    parts: u32,
    /// The file to write (.h5).
    out: PathBuf,
    /// Multiplies coordinates.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = positive)]
    scale: f64,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("a positive number is wanted".to_string()),
    }
}

fn shape(text: &str) -> Result<Shape, String> {
    let known = Shape::ALL.iter().filter(|s| s.dim() > 0).map(|s| s.name());
    match Shape::parse(text).filter(|s| s.dim() > 0) {
        Some(shape) => Ok(shape),
        None => Err(format!("the shapes are {}", known.collect::<Vec<_>>().join(", "))),
    }
}

/// Runs the command; under a launcher on all its ranks.
pub fn main(command: &MeshCommand) -> i32 {
    launch::on_ranks(|comm| {
        let text = match command {
            MeshCommand::Info(args) => info(comm, args),
            MeshCommand::Generate(args) => generate(comm, args),
            MeshCommand::Convert(args) => convert(comm, args),
            MeshCommand::Partition(args) => partition(comm, args),
        }?;
        if comm.is_root() {
            print!("{text}");
        }
        Ok(0)
    })
}

/// Checks on one rank that a file is there. Collective.
fn check_input(comm: &Comm, path: &Path) -> Result<(), RunError> {
    comm.agree(if comm.is_root() { check_exists(path) } else { Ok(()) })
}

/// A draft of a mesh file along the curve, whatever parts it may have. Collective.
fn draft(comm: &Comm, path: &Path, scale: f64) -> Result<Draft, RunError> {
    check_input(comm, path)?;
    let soup = mesh_files::read(comm, path)?.soup;
    Ok(Draft::new(comm, soup, scale, &[], true)?)
}

/// Stores a draft. Collective.
fn store(
    comm: &Comm,
    out: &Path,
    draft: &Draft,
    owners: &[u32],
    n_parts: usize,
    hash: &str,
) -> Result<(), RunError> {
    mesh_files::write(comm, out, draft, owners, n_parts, hash)?.finish()?;
    Ok(())
}

fn info(comm: &Comm, args: &InfoArgs) -> Result<String, RunError> {
    let mesh: Mesh = if args.file.extension().is_some_and(|e| e == "toml") {
        check_input(comm, &args.file)?;
        let case = Case::load(&args.file, &args.sets).map_err(RunError::from);
        mesh::load(comm, &comm.agree(case)?, &mut Phases::new())?.mesh
    } else {
        let draft = draft(comm, &args.file, args.scale)?;
        let (owners, _) = mesh::partition_draft(&draft, comm.size())?;
        draft.distribute(&owners)?
    };
    let text = mesh_info::describe(&mesh)?;
    Ok(format!("{}\n{text}", args.file.display()))
}

fn generate(comm: &Comm, args: &GenerateArgs) -> Result<String, RunError> {
    mesh_files::check_name(&args.out)?;
    let input = |message: String| RunError::new(Kind::Input, "mesh", message);
    let simplex = [Shape::Interval, Shape::Triangle, Shape::Tetrahedron];
    let default = simplex.get(args.size.len().wrapping_sub(1)).copied();
    let shape = args.shape.or(default).ok_or_else(|| input("--size has 1, 2 or 3 entries".into()))?;
    if !args.origin.is_empty() && args.origin.len() != args.size.len() {
        return Err(input(format!(
            "--origin has {} entries, --size has {}",
            args.origin.len(),
            args.size.len()
        )));
    }
    let mut origin = [0.0; 3];
    origin[..args.origin.len()].copy_from_slice(&args.origin);
    let spec = BoxSpec { size: args.size.clone(), cells: args.cells.clone(), shape, origin };
    let soup = boxes::generate(comm, &spec).map_err(|e| input(e.to_string()))?;
    let draft = Draft::new(comm, soup, 1.0, &[], true)?;
    let n_cells = comm.sum(draft.n_cells() as u64);
    store(comm, &args.out, &draft, &vec![0; draft.n_cells()], 1, &format!("generated {spec:?}"))?;
    Ok(format!("{}: {} {}\n", args.out.display(), grouped(n_cells), shape.plural_name()))
}

fn convert(comm: &Comm, args: &ConvertArgs) -> Result<String, RunError> {
    mesh_files::check_name(&args.out)?;
    let draft = draft(comm, &args.file, args.scale)?;
    let hash = mesh_files::hash(comm, &args.file)?;
    let n_cells = comm.sum(draft.n_cells() as u64);
    let n_nodes = comm.sum(draft.nodes().0.len() as u64);
    store(comm, &args.out, &draft, &vec![0; draft.n_cells()], 1, &hash)?;
    Ok(format!("{}: {} cells, {} nodes\n", args.out.display(), grouped(n_cells), grouped(n_nodes)))
}

fn partition(comm: &Comm, args: &PartitionArgs) -> Result<String, RunError> {
    mesh_files::check_name(&args.out)?;
    let draft = draft(comm, &args.file, args.scale)?;
    let hash = mesh_files::hash(comm, &args.file)?;
    let n_parts = args.parts as usize;
    let (found, quality) = mesh::partition_measured(comm, &draft, n_parts)?;
    store(comm, &args.out, &draft, &found.owner, n_parts, &hash)?;
    let mut sizes = vec![0u64; n_parts];
    found.owner.iter().for_each(|&part| sizes[part as usize] += 1);
    comm.sum_slice(&mut sizes);
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    let cells = sizes.iter().sum();
    let mut text =
        format!("{}: {} cells in {n_parts} parts by {}\n", args.out.display(), grouped(cells), found.method);
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<16} {value}\n"));
    line("cells a part", format!("{} to {}", grouped(least), grouped(most)));
    line("imbalance", format!("{:.4}  (the largest part over the mean)", quality.imbalance));
    line("edge cut", format!("{}  (facets between parts)", grouped(quality.edge_cut)));
    line("neighbours", format!("{:.1} a part, at most {}", quality.mean_neighbours, quality.max_neighbours));
    line(
        "connected",
        match quality.disconnected_parts {
            0 => "every part".to_string(),
            n => format!("all parts but {n}; one consists of {} pieces", quality.max_components),
        },
    );
    if quality.empty_parts > 0 {
        line("empty", format!("{} parts have no cell: use fewer", quality.empty_parts));
    }
    Ok(text)
}
