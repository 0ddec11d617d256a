//! The model that ships with the daemon, and where it is looked for.

use std::path::{Path, PathBuf};

/// The name of the model that ships: the stem of its GGUF file.
pub const SHIPPED_MODEL: &str = "arithmetic-demo";

/// The directories in which the shipped model may lie for this executable: those that exist of the one
/// beside it, `share/itsd/models` of its prefix, and `models` of the source tree it was built in.
pub fn model_dirs() -> Vec<PathBuf> {
    // The source tree is where it was when this was compiled: the target directory may lie anywhere.
    let source_tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::current_exe().map(|executable| model_dirs_of(&executable, source_tree)).unwrap_or_default()
}

fn model_dirs_of(executable: &Path, source_tree: &Path) -> Vec<PathBuf> {
    let Some(beside) = executable.parent() else { return Vec::new() };
    let mut dirs = vec![beside.join("models")];
    if beside.join(format!("{SHIPPED_MODEL}.gguf")).is_file() {
        dirs.push(beside.to_owned());
    }
    if let Some(prefix) = beside.parent() {
        dirs.push(prefix.join("share/itsd/models"));
    }
    dirs.push(source_tree.join("models"));
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
        let tree = root.path().join("src");
        assert_eq!(model_dirs_of(&root.path().join("usr/bin/itsd"), Path::new("/nowhere")), [shared]);
        assert_eq!(model_dirs_of(&root.path().join("target/debug/itsd"), &tree), [source]);
        assert!(model_dirs_of(&root.path().join("elsewhere/itsd"), Path::new("/nowhere")).is_empty());
    }
}
