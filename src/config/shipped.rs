//! The model that ships with the daemon, and where it is looked for.

use std::path::{Path, PathBuf};

/// The name of the model that ships: the stem of its GGUF file.
pub const SHIPPED_MODEL: &str = "arithmetic-demo";

/// The directories in which the shipped model may lie for this executable: those that exist of the one
/// beside it, `share/itsd/models` of its prefix, and `models` of the source tree it was built in.
pub fn model_dirs() -> Vec<PathBuf> {
    std::env::current_exe().map(|executable| model_dirs_of(&executable)).unwrap_or_default()
}

fn model_dirs_of(executable: &Path) -> Vec<PathBuf> {
    let Some(beside) = executable.parent() else { return Vec::new() };
    let mut dirs = vec![beside.join("models")];
    if beside.join(format!("{SHIPPED_MODEL}.gguf")).is_file() {
        dirs.push(beside.to_owned());
    }
    if let Some(prefix) = beside.parent() {
        dirs.push(prefix.join("share/itsd/models"));
    }
    // `target/release/itsd`, and `target/debug/deps/…` for a test: the source tree is a few levels up.
    dirs.extend(
        beside.ancestors().skip(1).take(3).filter(|dir| dir.join("Cargo.toml").is_file()).map(|dir| dir.join("models")),
    );
    dirs.retain(|dir| dir.is_dir());
    dirs.dedup();
    dirs
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_installed_binary_looks_in_its_prefix_and_a_built_one_in_its_source_tree() {
        let root = tempfile::tempdir().unwrap();
        let shared = root.path().join("usr/share/itsd/models");
        let source = root.path().join("src/models");
        fs::create_dir_all(&shared).unwrap();
        fs::create_dir_all(&source).unwrap();
        fs::write(root.path().join("src/Cargo.toml"), "").unwrap();
        assert_eq!(model_dirs_of(&root.path().join("usr/bin/itsd")), [shared]);
        for built in ["src/target/release/itsd", "src/target/debug/deps/itsd-1"] {
            assert_eq!(model_dirs_of(&root.path().join(built)), std::slice::from_ref(&source), "{built}");
        }
        assert!(model_dirs_of(&root.path().join("elsewhere/itsd")).is_empty());
    }
}
