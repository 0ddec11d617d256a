//! As whom calls are signed: with keys that are known, or with those that the SDK finds where it is told to look.

use std::sync::Arc;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_bedrockruntime::config::{Credentials as StaticCredentials, Region, SharedCredentialsProvider};
use secrecy::{ExposeSecret, SecretString};

use super::asked::Asked;
use super::profiles::{Profile, ProfileFiles};
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
    pub credentials: Credentials,
}

#[derive(Debug, Clone)]
pub enum Credentials {
    /// No call is signed: the provider has a key of Bedrock's own.
    Unsigned,
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

/// Who signs the calls of all members of a provider.
#[derive(Clone)]
pub(super) enum Signer {
    Nobody,
    Keys(SharedCredentialsProvider),
    Asked(Arc<Asked>),
}

/// Keys of a user, or of a session.
#[derive(Debug, Clone)]
pub struct Keys {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

impl Aws {
    /// What tells its credentials from others, none of it secret but by its hash.
    pub(super) fn name(&self) -> String {
        match &self.credentials {
            Credentials::Unsigned => "nobody".to_owned(),
            Credentials::Keys(keys) => keys.access_key_id.expose_secret().to_owned(),
            Credentials::Profile { name, .. } => format!("profile {name}"),
            Credentials::Machine { profile, .. } => format!("machine {profile}"),
        }
    }

    /// Everything that makes it what it is, secrets included, and the files of profiles as they are now.
    pub fn parts(&self) -> Vec<String> {
        let mut parts = vec![self.region.clone()];
        match &self.credentials {
            Credentials::Keys(keys) => {
                parts.extend(keys.all().map(|key| key.expose_secret().to_owned()));
            }
            Credentials::Unsigned => {}
            other @ (Credentials::Profile { files, .. } | Credentials::Machine { files, .. }) => {
                parts.push(format!("{other:?} {:?}", files.stamps()));
            }
        }
        parts
    }

    /// The secrets that are known here.
    pub(in crate::providers) fn secrets(&self) -> Vec<SecretString> {
        match &self.credentials {
            Credentials::Keys(keys) => keys.all().cloned().collect(),
            Credentials::Unsigned | Credentials::Profile { .. } | Credentials::Machine { .. } => Vec::new(),
        }
    }

    /// Who signs.
    ///
    /// # Errors
    ///
    /// When others must be asked for credentials, and the machine's certificates cannot be read.
    pub(super) fn signer(&self, shared: &Shared) -> Result<Signer, ProviderError> {
        match &self.credentials {
            Credentials::Unsigned => Ok(Signer::Nobody),
            Credentials::Keys(Keys { access_key_id, secret_access_key, session_token }) => {
                let token = session_token.as_ref().map(|token| token.expose_secret().to_owned());
                let (id, key) = (access_key_id.expose_secret(), secret_access_key.expose_secret());
                Ok(Signer::Keys(SharedCredentialsProvider::new(StaticCredentials::new(id, key, token, None, "itsd"))))
            }
            Credentials::Profile { name, files } => {
                let (name, asking) = (name.clone(), self.asking(shared)?);
                Ok(Signer::asked(Profile { name, files: files.clone(), asking }, files))
            }
            Credentials::Machine { profile, files } => {
                /// The instance's service is near by, or not there at all.
                const LONGEST_WAIT: Duration = Duration::from_secs(2);
                let asking = self.asking(shared)?;
                let imds =
                    imds::Client::builder().configure(&asking).max_attempts(1).operation_timeout(LONGEST_WAIT).build();
                let profile = Profile { name: profile.clone(), files: files.clone(), asking: asking.clone() };
                let chain = CredentialsProviderChain::first_try("profile", profile)
                    .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().configure(&asking).build())
                    .or_else("container", EcsCredentialsProvider::builder().configure(&asking).build())
                    .or_else(
                        "instance",
                        ImdsCredentialsProvider::builder().configure(&asking).imds_client(imds).build(),
                    );
                Ok(Signer::asked(chain, files))
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

impl Signer {
    fn asked(provider: impl ProvideCredentials + 'static, files: &ProfileFiles) -> Self {
        Self::Asked(Arc::new(Asked::new(provider, files.clone())))
    }
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &SecretString> {
        [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token)
    }
}
