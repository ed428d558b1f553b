//! What can be wrong with a graph or a request.

use serde::{Deserialize, Serialize};

/// Why a graph was refused or a partition not made. Vertices are global numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// No parts were asked for.
    #[error("a graph cannot be split into 0 parts")]
    NoParts,
    /// More parts than 32-bit part numbers can name.
    #[error("{n_parts} parts: at most 2147483647 can be numbered")]
    TooManyParts {
        /// The number asked for.
        n_parts: u64,
    },
    /// An array does not have the length the others imply.
    #[error("rank {rank}: {array} has {found} entries, expected {expected}")]
    Length {
        /// The rank that holds it.
        rank: usize,
        /// Its name.
        array: String,
        /// Its length.
        found: u64,
        /// The length the other arrays imply.
        expected: u64,
    },
    /// The offsets do not start at 0 or decrease.
    #[error("rank {rank}: the offsets of vertex {vertex} do not start at 0 or decrease")]
    Offsets {
        /// The rank that holds it.
        rank: usize,
        /// The first such vertex.
        vertex: u64,
    },
    /// More vertices on a rank than 32-bit local numbers can name.
    #[error("rank {rank} holds {n} vertices and ghosts, at most 4294967294 can be numbered: use more ranks")]
    TooManyVertices {
        /// The rank.
        rank: usize,
        /// How many it holds.
        n: u64,
    },
    /// A neighbour that does not exist.
    #[error("vertex {vertex} has neighbour {neighbour}, but there are {n_global} vertices")]
    Range {
        /// The vertex.
        vertex: u64,
        /// Its neighbour.
        neighbour: u64,
        /// The number of vertices.
        n_global: u64,
    },
    /// A vertex that is its own neighbour.
    #[error("vertex {vertex} is its own neighbour")]
    SelfLoop {
        /// The vertex.
        vertex: u64,
    },
    /// A neighbour listed twice.
    #[error("vertex {vertex} lists neighbour {neighbour} twice")]
    Duplicate {
        /// The vertex.
        vertex: u64,
        /// Its neighbour.
        neighbour: u64,
    },
    /// An edge weight below 1 or a vertex weight below 0.
    #[error("vertex {vertex} has {what} weight {weight}: vertices need at least 0, edges at least 1")]
    Weight {
        /// The vertex.
        vertex: u64,
        /// `vertex` or `edge`.
        what: String,
        /// The weight.
        weight: i32,
    },
    /// An edge that one end lists and the other does not, or with another weight.
    #[error("vertex {vertex} lists neighbour {neighbour}, which does not list it back with the same weight")]
    NotSymmetric {
        /// The vertex.
        vertex: u64,
        /// Its neighbour.
        neighbour: u64,
    },
    /// An owner that is not a part.
    #[error("vertex {vertex} is owned by part {owner}, but there are {n_parts} parts")]
    Owner {
        /// The vertex.
        vertex: u64,
        /// Its owner.
        owner: u32,
        /// The number of parts.
        n_parts: u64,
    },
    /// A part without vertices although there are enough.
    #[error("part {part} has no vertices although there are {n_global} for {n_parts} parts")]
    EmptyPart {
        /// The first such part.
        part: u64,
        /// The number of vertices.
        n_global: u64,
        /// The number of parts.
        n_parts: u64,
    },
}
