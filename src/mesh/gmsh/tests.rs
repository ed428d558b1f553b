//! Tests without MPI: one rank, and shares of several computed one after the other.
