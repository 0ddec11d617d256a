//! What outlives the process: configuration revisions in SQLite, and the key that seals their secrets.
//! All SQL is here.

pub mod seal;
mod sqlite;

pub use sqlite::{NewRevision, Origin, Revision, Store, StoreError};
