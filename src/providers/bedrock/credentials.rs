//! As whom calls are signed: with keys that are known, or with those that the SDK finds where it is told to look.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_bedrockruntime::config::{Credentials as StaticCredentials, Region, SharedCredentialsProvider};
use aws_types::os_shim_internal::{Env, Fs};
use futures_util::FutureExt;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::error::root_cause;
use super::transport::{Transport, calls_for_credentials};
use crate::providers::http_client;
use crate::providers::shared::Shared;
use crate::providers::spec::ProviderError;
use crate::providers::upstream::{Upstream, Wording};

/// Where in AWS, and as whom.
#[derive(Debug, Clone)]
pub struct Aws {
    /// Such as `us-east-1`.
    pub region: String,
    /// Unless the provider has a key of Bedrock's own.
    pub credentials: Credentials,
}

#[derive(Debug, Clone)]
pub enum Credentials {
    Keys(Keys),
    /// A profile of the operator's files, and nothing else.
    Profile {
        name: String,
        files: ProfileFiles,
    },
    /// A profile of the operator's files, where it has credentials, else what the machine is given: a web identity, the
    /// role of a container, the role of an instance.
    Machine {
        profile: String,
        files: ProfileFiles,
    },
}

/// Keys of a user, or of a session.
#[derive(Debug, Clone)]
pub struct Keys {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

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

impl Aws {
    /// What tells its credentials from others, none of it secret but by its hash.
    pub(super) fn name(&self) -> String {
        match &self.credentials {
            Credentials::Keys(keys) => keys.access_key_id.expose_secret().to_owned(),
            Credentials::Profile { name, .. } => format!("profile {name}"),
            Credentials::Machine { profile, .. } => format!("machine {profile}"),
        }
    }

    /// Everything that makes it what it is, secrets included.
    pub fn parts(&self) -> Vec<String> {
        let mut parts = vec![self.region.clone()];
        match &self.credentials {
            Credentials::Keys(keys) => {
                parts.extend(keys.all().map(|key| key.expose_secret().to_owned()));
            }
            other => parts.push(format!("{other:?}")),
        }
        parts
    }

    /// The secrets that are known here.
    pub(in crate::providers) fn secrets(&self) -> Vec<SecretString> {
        match &self.credentials {
            Credentials::Keys(keys) => keys.all().cloned().collect(),
            Credentials::Profile { .. } | Credentials::Machine { .. } => Vec::new(),
        }
    }

    /// Who gives the SDK its credentials.
    ///
    /// # Errors
    ///
    /// When others must be asked for them, and the machine's certificates cannot be read.
    pub(super) fn provider(&self, shared: &Shared) -> Result<SharedCredentialsProvider, ProviderError> {
        match &self.credentials {
            Credentials::Keys(Keys { access_key_id, secret_access_key, session_token }) => {
                let token = session_token.as_ref().map(|token| token.expose_secret().to_owned());
                let (id, key) = (access_key_id.expose_secret(), secret_access_key.expose_secret());
                Ok(SharedCredentialsProvider::new(StaticCredentials::new(id, key, token, None, "itsd")))
            }
            Credentials::Profile { name, files } => Ok(Asked::shared(files.provider(name, &self.asking(shared)?))),
            Credentials::Machine { profile, files } => {
                /// The instance's service is near by, or not there at all.
                const LONGEST_WAIT: Duration = Duration::from_secs(2);
                let asking = self.asking(shared)?;
                let imds =
                    imds::Client::builder().configure(&asking).max_attempts(1).operation_timeout(LONGEST_WAIT).build();
                let chain = CredentialsProviderChain::first_try("profile", files.provider(profile, &asking))
                    .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().configure(&asking).build())
                    .or_else("container", EcsCredentialsProvider::builder().configure(&asking).build())
                    .or_else(
                        "instance",
                        ImdsCredentialsProvider::builder().configure(&asking).imds_client(imds).build(),
                    );
                Ok(Asked::shared(chain))
            }
        }
    }

    /// How others are asked for credentials: over our own connections, which lead wherever they are.
    fn asking(&self, shared: &Shared) -> Result<ProviderConfig, ProviderError> {
        let calls = calls_for_credentials();
        let any = http_client::Transport { tls: true, http2: false, connect_timeout: calls.connect_timeout };
        let client = shared.clients.client(any).map_err(ProviderError::Tls)?;
        let service = "the service that gives credentials".to_owned();
        let wording = Wording { key: "the credentials", endpoint: "the profile" };
        let upstream = Upstream { name: service.clone(), origin: service, secrets: Vec::new(), wording };
        let transport = Transport::new(client, calls, Arc::new(upstream));
        let region = Some(Region::new(self.region.clone()));
        Ok(ProviderConfig::without_region().with_region(region).with_http_client(transport))
    }
}

/// Credentials that others are asked for. A failure is remembered for a while: a run's candidates ask one after the other,
/// and each would wait for the same.
#[derive(Debug)]
struct Asked<P> {
    provider: P,
    failed: Mutex<Option<(Instant, String)>>,
}

impl<P: ProvideCredentials + 'static> Asked<P> {
    /// A failure holds for so long.
    const REMEMBERED: Duration = Duration::from_secs(5);

    fn shared(provider: P) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Self { provider, failed: Mutex::default() })
    }

    async fn ask(&self) -> Result<StaticCredentials, CredentialsError> {
        if let Some((at, why)) = &*self.failed.lock()
            && at.elapsed() < Self::REMEMBERED
        {
            return Err(CredentialsError::not_loaded(why.clone()));
        }
        let asked = self.provider.provide_credentials().await;
        *self.failed.lock() = asked.as_ref().err().map(|error| (Instant::now(), root_cause(error)));
        asked
    }
}

impl<P: ProvideCredentials + 'static> ProvideCredentials for Asked<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &SecretString> {
        [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token)
    }
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

    fn provider(&self, profile: &str, asking: &ProviderConfig) -> ProfileFileCredentialsProvider {
        ProfileFileCredentialsProvider::builder()
            .configure(asking)
            .profile_name(profile)
            .profile_files(self.named())
            .build()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails the first time.
    #[derive(Debug, Default)]
    struct Late(AtomicUsize);

    impl ProvideCredentials for Late {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(CredentialsError::provider_error("nobody is there")),
                _ => Ok(StaticCredentials::new("id", "key", None, None, "test")),
            })
        }
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while_and_then_asked_about_again() {
        let asked = Asked { provider: Late::default(), failed: Mutex::default() };
        for _ in 0..3 {
            assert_eq!(root_cause(&asked.ask().await.unwrap_err()), "nobody is there");
        }
        assert_eq!(asked.provider.0.load(Ordering::Relaxed), 1);
        let long_ago = Instant::now().checked_sub(Asked::<Late>::REMEMBERED).unwrap();
        asked.failed.lock().as_mut().unwrap().0 = long_ago;
        assert_eq!(asked.ask().await.unwrap().access_key_id(), "id");
        assert!(asked.failed.lock().is_none());
        assert!(asked.ask().await.is_ok());
    }
}
