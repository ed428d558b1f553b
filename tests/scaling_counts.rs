//! What can be counted stays bounded as ranks are added: messages, bytes, requests for memory and tables by rank. Ranks are more
//! than cores here; counts do not mind.

mod common;
#[path = "../benches/fixtures/mod.rs"]
mod fixtures;

use std::path::Path;
use std::time::Duration;

use common::{Scratch, femdd, finish};
use femdd::study::counts::{Row, case_of};

fn counted(ladder: &str, ranks: &str, side: usize) -> Vec<Row> {
    let scratch = Scratch::new();
    let mut command = femdd();
    command.current_dir(scratch.path());
    command.args(["bench", "counts", "--ladder", ladder, "--ranks", ranks, "--side", &side.to_string()]);
    command.args(["--output", "counts.json"]);
    let ended = finish(command, Duration::from_secs(600));
    assert!(!ended.timed_out && ended.code() == 0, "{}", ended.text());
    println!("{}", ended.stdout);
    read(&scratch.path().join("counts.json"))
}

fn read(path: &Path) -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("rows")
}

/// What holds on any ladder: tables with an entry for each rank take at most 64 bytes a rank.
fn check_tables(rows: &[Row]) {
    for row in rows {
        let tables = row.sum(|_| true).largest_table;
        assert!(tables <= 64 * row.ranks as u64, "{} ranks: a table of {tables} bytes", row.ranks);
        assert!(row.phases.contains_key("mesh") && row.phases.contains_key("space"), "{row:?}");
    }
}

/// How much the counts of the rank with the most may grow from one rung of a weak ladder to a later one.
///
/// Messages are counted by neighbour: on 8 ranks, two in each direction, nobody can have more than 7, while a
/// rank inside of 64 has 26. Bytes are compared with what the layer of cubes round a rank's own has to grow by,
/// from that at a corner of all boxes to that inside.
struct Growth {
    messages_per_neighbour: f64,
    bytes_per_layer: f64,
}

/// The cubes round `side`^3 others that lie at a corner (half of the directions), or inside.
fn layer(side: usize, inside: bool) -> f64 {
    let cube = |side: usize| side.pow(3) as f64;
    cube(side + if inside { 2 } else { 1 }) - cube(side)
}

fn check_growth(rows: &[Row], from: usize, to: usize, layers: f64, limit: &Growth) {
    let at = |ranks| rows.iter().find(|row| row.ranks == ranks).expect("a rung").sum(|_| true);
    let (few, many) = (at(from), at(to));
    assert!(few.messages > 0 && few.neighbours > 0 && few.bytes > 0, "{few:?}");
    for (what, few, many, limit) in [
        (
            "messages",
            few.messages,
            many.messages,
            limit.messages_per_neighbour * many.neighbours as f64 / few.neighbours as f64,
        ),
        ("bytes", few.bytes, many.bytes, limit.bytes_per_layer * layers),
    ] {
        assert!(many as f64 <= limit * few as f64, "{what} of a rank: {few} on {from} ranks, {many} on {to}");
    }
}

/// No rank asks for much more memory at once on many ranks than on few, each with as many cubes: a rank inside has cells
/// of others on all its sides, and vectors grow by doubling.
///
/// The solver's set-up gathers levels with fewer than 40 nodes a rank, of some 50 neighbours each in double precision.
fn check_allocations(rows: &[Row], from: usize, to: usize) {
    const LIMIT: f64 = 2.5;
    const GATHERED: u64 = 40 * 64 * 8;
    let at = |ranks| rows.iter().find(|row| row.ranks == ranks).expect("a rung");
    let (few, many) = (at(from), at(to));
    let largest = |row: &Row| row.largest_allocation().expect("requests are counted").1;
    let most = LIMIT * largest(few) as f64;
    assert!(
        largest(few) > 1 << 14 && largest(many) as f64 <= most,
        "at once: {:?} {:?}",
        few.allocations,
        many.allocations
    );
    let set_up = |row: &Row| row.allocations["pc_setup"];
    let most = (LIMIT * set_up(few) as f64).max((GATHERED * to as u64) as f64);
    assert!(set_up(few) > 0 && set_up(many) as f64 <= most, "gathered: {} {}", set_up(few), set_up(many));
}

/// Boxes of degree 1 have the numbers and exchanges of their vertices: numbering sends nothing, finding the
/// separate bodies two messages to a neighbour, and the mesh a question and an answer to each.
fn check_boxes(rows: &[Row]) {
    for row in rows {
        let (mesh, space) = (&row.phases["mesh"], &row.phases["space"]);
        assert!(space.messages <= 5 * space.neighbours, "{} ranks: {space:?}", row.ranks);
        assert!(mesh.messages <= 2 * mesh.neighbours, "{} ranks: {mesh:?}", row.ranks);
    }
}

/// A ladder of boxes with `side`^3 cubes a rank, from 1 rank up; growth is counted from 8 ranks to the last rung.
fn check_weak(ranks: &str, side: usize) -> Vec<Row> {
    let rows = counted("weak", ranks, side);
    check_tables(&rows);
    check_boxes(&rows);
    assert_eq!(rows[0].sum(|_| true).messages, 0, "one rank has nobody to send to");
    let limit = Growth { messages_per_neighbour: 1.5, bytes_per_layer: 1.25 };
    let last = rows.last().expect("a rung").ranks;
    check_growth(&rows, 8, last, layer(side, true) / layer(side, false), &limit);
    check_allocations(&rows, 8, last);
    rows
}

#[test]
fn a_weak_ladder_to_16_ranks() {
    let rows = check_weak("1,2,4,8,16", 6);
    assert!(rows[4].sum(|_| true).neighbours <= 15);
}

#[test]
fn a_strong_ladder_to_16_ranks() {
    let rows = counted("strong", "2,4,16", 12);
    check_tables(&rows);
    let bytes = |k: usize| rows[k].sum(|_| true).bytes;
    // Less surface, but more neighbours and coarse levels that every rank holds a copy of.
    assert!(
        bytes(2) < bytes(0) + bytes(0) / 4,
        "a rank of 16 says more than one of 2: {} {}",
        bytes(2),
        bytes(0)
    );
}

#[test]
#[ignore = "64 ranks take their time on few cores"]
fn a_weak_ladder_to_64_ranks() {
    let rows = check_weak("1,2,4,8,16,32,64", 8);
    assert!(rows[6].sum(|_| true).neighbours <= 26);
}

#[test]
#[ignore = "64 ranks take their time on few cores"]
fn a_strong_ladder_to_64_ranks() {
    let rows = counted("strong", "1,2,4,8,16,32,64", 24);
    check_tables(&rows);
    check_boxes(&rows);
}

/// The mesh of a file, whose nodes lie about in no order, on more and more ranks.
#[test]
fn a_file_on_16_ranks() {
    let scratch = Scratch::new();
    fixtures::write_gmsh_cube(&scratch.path().join("cube.msh"), 12).expect("a mesh file");
    let case = scratch.write("case.toml", &case_of("[mesh]\nfile = \"cube.msh\"\n", &["walls"]));
    let (program, ladder) = (femdd(), [2, 16]);
    let rows = femdd::study::counts::ladder(Path::new(program.get_program()), &ladder, |_| Ok(case.clone()));
    let rows = rows.unwrap_or_else(|e| panic!("{}", e.text()));
    println!("{}", femdd::study::counts::text(&rows));
    check_tables(&rows);
    let bytes = |k: usize| rows[k].sum(|_| true).bytes;
    assert!(bytes(1) < bytes(0), "{} {}", bytes(1), bytes(0));
}
