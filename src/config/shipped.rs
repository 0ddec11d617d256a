//! The model that ships with the daemon, and where it is looked for.

use std::path::{Path, PathBuf};

/// The name of the model that ships: the stem of its GGUF file.
pub const SHIPPED_MODEL: &str = "arithmetic-demo";

/// How many directories above the executable may be the source tree that it was built in. In that of
/// `target/PROFILE/itsd` it is the third, of `target/native/TARGET/PROFILE/deps/itsd` the sixth.
const MOST_PARENTS: usize = 6;

/// The directories in which the shipped model may lie for this executable: those that exist of the one
/// beside it, `share/itsd/models` of its prefix, and `models` of the source tree that it lies in.
pub fn model_dirs() -> Vec<PathBuf> {
    let mut dirs = std::env::current_exe().map(|executable| model_dirs_of(&executable)).unwrap_or_default();
    // A debug build is run where it was made, whose target directory may lie anywhere. What is handed on must not
    // hold the paths of the machine that made it.
    #[cfg(debug_assertions)]
    dirs.extend(ships_in(Path::new(env!("CARGO_MANIFEST_DIR"))));
    dirs.dedup();
    dirs
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
    dirs.retain(|dir| dir.is_dir());
    // Only where the very model lies: a directory of this name further up is somebody else's.
    dirs.extend(beside.ancestors().skip(1).take(MOST_PARENTS - 1).find_map(ships_in));
    dirs
}

/// The directory `models` of a source tree, where the model that ships lies in it.
fn ships_in(tree: &Path) -> Option<PathBuf> {
    let dir = tree.join("models");
    dir.join(format!("{SHIPPED_MODEL}.gguf")).is_file().then_some(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_installed_binary_looks_in_its_prefix() {
        let root = tempfile::tempdir().unwrap();
        let shared = root.path().join("usr/share/itsd/models");
        fs::create_dir_all(&shared).unwrap();
        assert_eq!(model_dirs_of(&root.path().join("usr/bin/itsd")), [shared]);
        assert!(model_dirs_of(&root.path().join("elsewhere/itsd")).is_empty());
    }

    #[test]
    fn a_built_one_looks_in_the_tree_that_it_lies_in_for_that_very_model() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("tree/models");
        fs::create_dir_all(&models).unwrap();
        let built = [
            "tree/target/debug/itsd",
            "tree/target/native/release/itsd",
            "tree/target/native/x86_64-unknown-linux-gnu/release/deps/itsd",
        ];
        for executable in built {
            assert!(model_dirs_of(&root.path().join(executable)).is_empty(), "{executable}: no model lies there");
        }
        fs::write(models.join("arithmetic-demo.gguf"), "x").unwrap();
        for executable in built {
            assert_eq!(model_dirs_of(&root.path().join(executable)), [models.clone()], "{executable}");
        }
        let too_deep = root.path().join("tree/a/b/c/d/e/f/itsd");
        assert!(model_dirs_of(&too_deep).is_empty());
    }
}
