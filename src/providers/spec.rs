//! What makes a provider: where it is, how it is spoken to, what is sent along, and its limits.

use std::fmt;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::bedrock::Aws;
use super::upstream::{Upstream, Wording};
use crate::config::calls::CallSettings;
use crate::config::capabilities::CapabilityTable;
use crate::config::endpoint::Member;
use crate::config::extra_args::visit_secrets;

/// What makes a provider: where it is, what to send along, and its limits.
#[derive(Clone)]
pub struct ProviderSpec {
    /// What failures call it, for example `openrouter`.
    pub name: String,
    /// The addresses that `/chat/completions` is appended to, usually ending in `/v1`; at least one. A query stays.
    pub members: Vec<Member>,
    pub dialect: Dialect,
    /// Sent as the dialect has it, unless `headers` has an `Authorization` of its own.
    pub api_key: Option<SecretString>,
    /// Sent with every call.
    pub headers: Vec<(String, SecretString)>,
    /// Body fields for requests that do not name them themselves.
    pub body: Map<String, Value>,
    /// What its models can do.
    pub capabilities: CapabilityTable,
    pub calls: CallSettings,
    pub brought: Brought,
}

/// What of a provider a request has brought itself. Only what is all the operator's is told of to those who watch over
/// the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    Nothing,
    /// The key, to an address that is configured.
    Key,
    /// The address, and the key if there is one.
    Endpoint,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Default)]
pub enum Dialect {
    /// As OpenAI's: paths under one address, and the key as a bearer token.
    #[default]
    OpenAi,
    /// Azure OpenAI: the key in the header `api-key`, and below a resource's address the model's deployment in the
    /// path and a version in the query. An address that ends in `/openai/v1` has the paths of OpenAI and needs no
    /// version.
    Azure {
        /// The version that every call names.
        api_version: Option<String>,
        /// The version of calls to deployments where none is named.
        deployments_version: String,
    },
    /// The Converse API of AWS Bedrock, whose calls are signed.
    Bedrock(Aws),
}

impl Dialect {
    /// Whether a header of this name says who asks.
    pub fn is_credential(&self, header: &str) -> bool {
        let names: &[&str] = match self {
            Self::OpenAi => &["authorization"],
            Self::Azure { .. } => &["authorization", "api-key"],
            // The signature says so, and stands over whatever is configured.
            Self::Bedrock(_) => &[],
        };
        names.iter().any(|name| header.eq_ignore_ascii_case(name))
    }
}

/// Why a provider cannot be made: always the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("`endpoint` must begin with http:// or https:// and name a host")]
    NotHttp,
    #[error("`endpoint` must not hold a user name or password; use `api_key` or a header")]
    Credentials,
    #[error("the header `{0}` cannot be sent: its name or value has characters that HTTP does not allow")]
    Header(String),
    #[error("the header `{0}` belongs to the connection and cannot be set")]
    ReservedHeader(String),
    #[error(
        "`endpoint` leads too far for `azure`: give the address of the resource, such as https://NAME.openai.azure.com, \
         or one that ends in /openai/v1; the deployment's name is `model`"
    )]
    AzurePath,
    #[error("the header `{0}` belongs to the signature of a call to AWS and cannot be set; a key goes into `api_key`")]
    HeaderOfSignature(String),
    #[error("`api_key` has characters that HTTP does not allow")]
    ApiKey,
    #[error("`n_parallel` must be at least 1")]
    NoParallelCalls,
    #[error("`endpoint` must name at least one address")]
    NoMembers,
    #[error("no HTTPS client: {0}; is the system's certificate bundle (ca-certificates) installed?")]
    Tls(String),
}

impl ProviderSpec {
    /// What is common to all providers that can be made.
    ///
    /// # Errors
    ///
    /// When it has no member, or no call may be made.
    pub(super) fn check(&self) -> Result<(), ProviderError> {
        if self.calls.n_parallel == 0 {
            return Err(ProviderError::NoParallelCalls);
        }
        if self.members.is_empty() {
            return Err(ProviderError::NoMembers);
        }
        Ok(())
    }

    /// The headers that the configuration has sent along.
    ///
    /// # Errors
    ///
    /// Those that HTTP does not allow, and those that belong to the connection.
    pub(super) fn own_headers(&self) -> Result<HeaderMap, ProviderError> {
        const RESERVED: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "upgrade"];
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let invalid = || ProviderError::Header(name.clone());
            let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
            if RESERVED.contains(&parsed.as_str()) {
                return Err(ProviderError::ReservedHeader(name.clone()));
            }
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        Ok(headers)
    }

    /// The upstream at an origin as failures speak of it.
    pub(super) fn upstream(&self, origin: String) -> Upstream {
        Upstream { name: self.name.clone(), origin, secrets: self.secrets(), wording: self.wording() }
    }

    /// What the upstream knows its client by.
    pub(super) fn key(&self) -> Option<&str> {
        let header = self.headers.iter().find(|(name, _)| self.dialect.is_credential(name)).map(|(_, value)| value);
        header.or(self.api_key.as_ref()).map(ExposeSecret::expose_secret)
    }

    /// How failures speak of what the upstream may refuse, to whoever can change it.
    pub(super) fn wording(&self) -> Wording {
        let by_header = self.headers.iter().any(|(name, _)| self.dialect.is_credential(name));
        let key = match (self.brought, self.key().is_some()) {
            (Brought::Nothing, false) if matches!(self.dialect, Dialect::Bedrock(_)) => {
                "the credentials that itsd signs with (in `extra_args` of /configure, or the usual ones of AWS)"
            }
            (Brought::Nothing, true) if by_header => "the key that itsd sends (in `extra_args.headers` of /configure)",
            (Brought::Nothing, true) => "the key that itsd sends (`api_key` in /configure, or the provider's variable)",
            (Brought::Nothing, false) => "a call without a key (`api_key` in /configure would send one)",
            (_, true) => "the key that the request brought (`X-ITS-API-Key`)",
            (_, false) => "a call without a key (`X-ITS-API-Key` would send one)",
        };
        let endpoint = if self.brought == Brought::Endpoint { "X-ITS-Endpoint" } else { "endpoint" };
        Wording { key, endpoint }
    }

    /// What failures must not repeat: the key, and what headers and body fields hold in secret. A header such as
    /// `Bearer abc` is secret in its parts, where they are long enough to be one; the shorter words of a title would be
    /// found in any text.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        const MIN_HEADER_PART_BYTES: usize = 8;
        let mut secrets: Vec<SecretString> = self.api_key.iter().cloned().collect();
        for (_, value) in &self.headers {
            let parts = value.expose_secret().split_ascii_whitespace();
            secrets.extend(parts.filter(|part| part.len() >= MIN_HEADER_PART_BYTES).map(SecretString::from));
        }
        if let Dialect::Bedrock(aws) = &self.dialect {
            secrets.extend(aws.secrets());
        }
        let mut body = self.body.clone();
        visit_secrets("extra_args", &mut body, &mut |_, text| secrets.push(SecretString::from(text.as_str())));
        // A secret that contains another goes first, so that nothing of it is left over.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        secrets
    }
}

impl fmt::Debug for ProviderSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Body fields are resolved here, with the secrets that they refer to, and an address's query may hold one too.
        let origins: Vec<String> =
            self.members.iter().map(|member| member.url.origin().ascii_serialization()).collect();
        formatter
            .debug_struct("ProviderSpec")
            .field("name", &self.name)
            .field("origins", &origins)
            .finish_non_exhaustive()
    }
}
