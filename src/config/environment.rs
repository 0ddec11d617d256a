//! The process environment as a value, so that everything that depends on it can be given another one.
//! Nothing else in the crate reads environment variables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::env_file;
use super::server::SettingsFileError;

/// The file of variables that is read when none is named, if it exists.
pub const DEFAULT_ENV_FILE: &str = ".env";

/// A set of environment variables. Variables whose value is not valid UTF-8 are left out.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The variables that only the file has.
    of_the_file: BTreeMap<String, String>,
    file: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process, as it is now.
    pub fn process() -> Self {
        Self::from_pairs(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, ..Self::default() }
    }

    /// This environment with the variables of a file that it does not have: of the one that is named, or of
    /// [`DEFAULT_ENV_FILE`], if there is one. A variable that is set to nothing is set.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, by its line, and when the one that is named is not there.
    pub fn with_env_file(mut self, named: Option<&Path>) -> Result<Self, SettingsFileError> {
        let file = named.unwrap_or(Path::new(DEFAULT_ENV_FILE));
        if named.is_none() && !file.is_file() {
            return Ok(self);
        }
        let refused = |why: String| SettingsFileError::Source(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let variables = env_file::parse(&text).map_err(|error| refused(error.to_string()))?;
        self.of_the_file = variables.into_iter().filter(|(name, _)| !self.variables.contains_key(name)).collect();
        self.file = Some(file.to_owned());
        Ok(self)
    }

    /// Only what the file gave, with its path; `None` when no file was read.
    pub fn file_alone(&self) -> Option<(&Path, Self)> {
        let file = self.file.as_deref()?;
        Some((file, Self { variables: self.of_the_file.clone(), ..Self::default() }))
    }

    /// Only what the process itself was given.
    pub fn process_alone(&self) -> Self {
        Self { variables: self.variables.clone(), ..Self::default() }
    }

    /// The value of a variable; `None` when it is not set or empty, which shells make hard to tell apart.
    pub fn var(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).or_else(|| self.of_the_file.get(name));
        value.map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from)
    }

    /// Every variable whose name begins with `prefix`, the prefix taken off.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.variables.iter().chain(&self.of_the_file);
        all.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

// Values may be keys, so that only the number of variables is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Environment({} variables)", self.variables.len() + self.of_the_file.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_what_the_environment_does_not_have() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.env");
        std::fs::write(&file, "PORT=1\nHOST=file # or not\nEMPTY=file\n").unwrap();
        let environment = Environment::from_pairs([("PORT", "2"), ("EMPTY", "")]);
        let environment = environment.with_env_file(Some(&file)).unwrap();
        assert_eq!((environment.var("PORT"), environment.var("HOST")), (Some("2"), Some("file")));
        assert_eq!(environment.var("EMPTY"), None, "set to nothing is set");
        assert_eq!(environment.process_alone().var("HOST"), None);
        let (path, alone) = environment.file_alone().unwrap();
        assert_eq!((path, alone.var("HOST"), alone.var("PORT")), (file.as_path(), Some("file"), None));
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_readable() {
        let missing = Environment::default().with_env_file(Some(Path::new("/nonexistent/.env"))).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/.env"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=1\nsk-secret\n").unwrap();
        let wrong = Environment::default().with_env_file(Some(file.path())).unwrap_err().to_string();
        assert!(wrong.contains("line 2") && !wrong.contains("sk-secret"), "{wrong}");
    }
}
