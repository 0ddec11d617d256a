//! Token confidence over HTTP.
