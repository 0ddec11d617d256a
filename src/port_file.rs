//! The file that tells which port the daemon got.

use std::io;
use std::path::{Path, PathBuf};

/// A port file that is there as long as this value is.
#[derive(Debug)]
pub struct PortFile(PathBuf);

impl PortFile {
    /// Writes the port to `path`, whole or not at all: a reader never sees half a number.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn write(path: &Path, port: u16) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        std::fs::write(&temporary, format!("{port}\n"))?;
        if let Err(error) = std::fs::rename(&temporary, path) {
            // The rename's own error is the one to tell.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        // Someone may have removed it already; there is nothing left to do about any other error.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_port_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        let file = PortFile::write(&path, 8108).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "8108\n");
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_path_that_cannot_be_replaced_is_an_error_that_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("port")).unwrap();
        PortFile::write(&directory.path().join("port"), 8108).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
