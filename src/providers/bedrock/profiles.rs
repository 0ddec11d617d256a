//! The files in which the operator keeps profiles, which may be rewritten at any time.

use std::fs::metadata;
use std::path::PathBuf;
use std::time::SystemTime;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};
use futures_util::FutureExt;

use super::error::root_cause;

/// The files in which the operator keeps profiles, as far as they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileFiles {
    /// `~/.aws/config`
    pub config: Option<PathBuf>,
    /// `~/.aws/credentials`
    pub credentials: Option<PathBuf>,
}

/// What the files say of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileSays {
    pub region: Option<String>,
    /// It says where credentials come from.
    pub has_credentials: bool,
}

/// When the files were written and how long they are: what tells one version of them from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamps([Option<(SystemTime, u64)>; 2]);

/// The credentials of a profile as its files are when they are asked for. The SDK's own provider reads the files once,
/// and remembers for ever what it has found, be it nothing.
#[derive(Debug)]
pub(super) struct Profile {
    pub name: String,
    pub files: ProfileFiles,
    /// How others are asked that the profile leads to.
    pub asking: ProviderConfig,
}

impl ProfileFiles {
    /// What they say of a profile; `None` where none has it.
    ///
    /// # Errors
    ///
    /// The reason, when one cannot be read.
    pub fn profile(&self, name: &str) -> Result<Option<ProfileSays>, String> {
        const WAYS: [&str; 7] = [
            "aws_access_key_id",
            "role_arn",
            "sso_session",
            "sso_start_url",
            "credential_process",
            "credential_source",
            "web_identity_token_file",
        ];
        // Neither the process's environment nor its usual files: what is to be read is named.
        let (files, environment) = (Fs::real(), Env::from_slice(&[]));
        let loading = self.named();
        let loading = aws_config::profile::load(&files, &environment, &loading, None);
        let Some(loaded) = loading.now_or_never() else { return Err("it takes too long".to_owned()) };
        let profiles = loaded.map_err(|error| root_cause(&error))?;
        Ok(profiles.get_profile(name).map(|profile| ProfileSays {
            region: profile.get("region").map(str::to_owned),
            has_credentials: WAYS.iter().any(|way| profile.get(way).is_some()),
        }))
    }

    pub(super) fn stamps(&self) -> Stamps {
        let stamp = |path: &Option<PathBuf>| {
            let file = metadata(path.as_ref()?).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        Stamps([stamp(&self.config), stamp(&self.credentials)])
    }

    fn named(&self) -> EnvConfigFiles {
        let kinds = [(EnvConfigFileKind::Config, &self.config), (EnvConfigFileKind::Credentials, &self.credentials)];
        let mut files = EnvConfigFiles::builder();
        for (kind, path) in kinds {
            files = match path {
                Some(path) => files.with_file(kind, path),
                // A builder must be given something.
                None => files.with_contents(kind, ""),
            };
        }
        files.build()
    }
}

impl Profile {
    async fn read(&self) -> provider::Result {
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&self.asking)
            .profile_name(&self.name)
            .profile_files(self.files.named())
            .build();
        provider.provide_credentials().await
    }
}

impl ProvideCredentials for Profile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}
