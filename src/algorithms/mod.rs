//! The algorithms that spend compute on a question, and the decisions they are made of.

pub mod vote;
