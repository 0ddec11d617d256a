//! Where the calls of a provider go.

use std::sync::Arc;

use url::Url;

use crate::providers::http_client::Target;
use crate::providers::spec::{Dialect, ProviderError};

/// The address of one server that answers.
#[derive(Debug, Clone)]
pub(super) struct Address {
    paths: Paths,
}

#[derive(Debug, Clone)]
enum Paths {
    /// The same for every model.
    Common { chat: Arc<Target>, text: Arc<Target> },
    /// Below the name of the model.
    Deployments(Url),
}

impl Address {
    /// Takes the address that the paths are appended to, usually ending in `/v1`. A query stays.
    ///
    /// # Errors
    ///
    /// When it is no address over http, holds a user or password, or leads past where the paths begin.
    pub fn new(base_url: &Url, dialect: &Dialect) -> Result<Self, ProviderError> {
        let mut base_url = checked(base_url)?;
        let Dialect::Azure { api_version, deployments_version } = dialect else {
            return Ok(Self { paths: Paths::common(&base_url) });
        };
        let path = base_url.path().trim_end_matches('/').to_owned();
        if path.contains("/deployments") || path.ends_with("/completions") {
            return Err(ProviderError::AzurePath);
        }
        if path.ends_with("/openai/v1") {
            if let Some(version) = api_version {
                set_version(&mut base_url, version);
            }
            return Ok(Self { paths: Paths::common(&base_url) });
        }
        // An address without a path is read as one that ends in `/v1`, and some clients write `/openai`.
        let root = path.strip_suffix("/v1").unwrap_or(&path);
        base_url.set_path(root.strip_suffix("/openai").unwrap_or(root));
        set_version(&mut base_url, api_version.as_ref().unwrap_or(deployments_version));
        Ok(Self { paths: Paths::Deployments(under(&base_url, &["openai", "deployments"])) })
    }

    /// Where chat completions of a model are asked for.
    pub fn chat(&self, model: &str) -> Arc<Target> {
        match &self.paths {
            Paths::Common { chat, .. } => Arc::clone(chat),
            Paths::Deployments(all) => target(under(all, &[model, "chat", "completions"])),
        }
    }

    /// Where continuations of raw text are asked for.
    pub fn text(&self, model: &str) -> Arc<Target> {
        match &self.paths {
            Paths::Common { text, .. } => Arc::clone(text),
            Paths::Deployments(all) => target(under(all, &[model, "completions"])),
        }
    }

    /// The path that is common to all calls. Behind one origin there may be several servers.
    pub fn path(&self) -> &str {
        self.url().path()
    }

    /// Scheme, host and port, which is all that is ever told of an address.
    pub fn origin(&self) -> String {
        self.url().origin().ascii_serialization()
    }

    fn url(&self) -> &Url {
        match &self.paths {
            Paths::Common { chat, .. } => &chat.url,
            Paths::Deployments(all) => all,
        }
    }
}

impl Paths {
    fn common(base_url: &Url) -> Self {
        let [chat, text] = [&["chat", "completions"][..], &["completions"]].map(|path| target(under(base_url, path)));
        Self::Common { chat, text }
    }
}

fn target(url: Url) -> Arc<Target> {
    Arc::new(Target::new(url))
}

fn checked(base_url: &Url) -> Result<Url, ProviderError> {
    if !matches!(base_url.scheme(), "http" | "https") || !base_url.has_host() {
        return Err(ProviderError::NotHttp);
    }
    if !base_url.username().is_empty() || base_url.password().is_some() {
        return Err(ProviderError::Credentials);
    }
    let mut url = base_url.clone();
    url.set_fragment(None);
    Ok(url)
}

/// `url` with further segments, each escaped as one.
fn under(url: &Url, path: &[&str]) -> Url {
    let mut url = url.clone();
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
    url
}

fn set_version(url: &mut Url, version: &str) {
    url.query_pairs_mut().append_pair("api-version", version);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn azure(base_url: &str, api_version: Option<&str>) -> Result<Address, ProviderError> {
        let dialect = Dialect::Azure {
            api_version: api_version.map(str::to_owned),
            deployments_version: "2024-10-21".to_owned(),
        };
        Address::new(&base_url.parse().unwrap(), &dialect)
    }

    #[test]
    fn a_resource_has_its_deployments_in_the_path_and_a_version_in_the_query() {
        for base_url in
            ["https://r.example", "https://r.example/v1", "https://r.example/openai/", "https://r.example/openai"]
        {
            let address = azure(base_url, None).unwrap();
            assert_eq!(
                address.chat("my-gpt").url.as_str(),
                "https://r.example/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
            );
            assert_eq!(
                address.text("my-gpt").url.as_str(),
                "https://r.example/openai/deployments/my-gpt/completions?api-version=2024-10-21"
            );
            assert_eq!(address.origin(), "https://r.example");
        }
        let gateway = azure("https://gateway.example/team", Some("2025-01-01-preview")).unwrap();
        assert_eq!(
            gateway.chat("m").url.as_str(),
            "https://gateway.example/team/openai/deployments/m/chat/completions?api-version=2025-01-01-preview"
        );
    }

    #[test]
    fn a_models_name_is_one_segment_of_the_path_whatever_it_holds() {
        let address = azure("https://r.example", None).unwrap();
        let path = |model: &str| address.chat(model).url.path().to_owned();
        assert_eq!(path("a/../b?c#d"), "/openai/deployments/a%2F..%2Fb%3Fc%23d/chat/completions");
        // What would climb is left out.
        for model in ["..", "."] {
            assert_eq!(path(model), "/openai/deployments/chat/completions");
        }
    }

    #[test]
    fn the_first_version_of_the_newer_paths_needs_no_other() {
        let usual = azure("https://r.example/openai/v1/", None).unwrap();
        assert_eq!(usual.chat("m").url.as_str(), "https://r.example/openai/v1/chat/completions");
        let preview = azure("https://r.example/openai/v1", Some("preview")).unwrap();
        assert_eq!(preview.text("m").url.as_str(), "https://r.example/openai/v1/completions?api-version=preview");
    }

    #[test]
    fn an_address_that_leads_too_far_is_refused() {
        for base_url in ["https://r.example/openai/deployments/my-gpt", "https://r.example/openai/v1/chat/completions"]
        {
            assert!(matches!(azure(base_url, None), Err(ProviderError::AzurePath)), "{base_url}");
        }
    }
}
