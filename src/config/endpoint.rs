//! Where requests may be sent: reading an endpoint and holding it to the outbound policy.
//!
//! The policy judges what is written, since setting a configuration makes no network call. What a host name leads to
//! is judged by [`may_be_called`] when it is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use url::{Host, Url};

use super::field::{self, SettingsError};
use super::fields::ENDPOINT_MEMBER;

/// Where a provider's calls go.
#[derive(Debug, Clone, PartialEq)]
pub enum Endpoint {
    /// The provider's usual address.
    Auto,
    Url(Url),
    /// Several servers that answer alike, at least two.
    Pool(Vec<Member>),
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub url: Url,
    /// Above 0: how many calls it is worth beside the others.
    pub weight: f64,
}

impl From<Url> for Member {
    fn from(url: Url) -> Self {
        Self { url, weight: 1.0 }
    }
}

impl Endpoint {
    /// Reads one address, or `auto`.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when it is neither.
    pub fn parse(param: &str, value: &Value) -> Result<Self, SettingsError> {
        match field::text(param, value)?.trim() {
            "auto" => Ok(Self::Auto),
            text if Url::parse(text).is_err() => Err(SettingsError::invalid(
                param,
                format!("`{param}` must be a URL such as https://api.openai.com/v1, or `auto`"),
            )),
            text => base_url(param, text).map(Self::Url),
        }
    }

    /// Reads one address, `auto`, or a list of addresses, each a URL or an object with `url` and `weight`.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when it is neither, the list is empty or too long, or a URL is in it twice.
    pub fn parse_pool(param: &str, value: &Value) -> Result<Self, SettingsError> {
        let items = match value {
            Value::Array(items) => items,
            Value::String(_) => return Self::parse(param, value),
            other => {
                let expected = "a URL, `auto`, or a list of URLs and of objects with `url` and `weight`";
                return Err(field::wrong_type(param, expected, other));
            }
        };
        let mut members: Vec<Member> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let place = format!("{param}[{at}]");
            let member = Member::parse(&place, item)?;
            if members.iter().any(|other| other.url == member.url) {
                let message = format!("`{place}` is in the list already; give that one a greater `weight`");
                return Err(SettingsError::invalid(place, message));
            }
            members.push(member);
        }
        match members.len() {
            0 => Err(SettingsError::invalid(param, format!("`{param}` is an empty list; name a URL, or `auto`"))),
            1 => Ok(Self::Url(members.remove(0).url)),
            2..=MOST_MEMBERS => Ok(Self::Pool(members)),
            _ => {
                Err(SettingsError::invalid(param, format!("`{param}` must not have more than {MOST_MEMBERS} members")))
            }
        }
    }

    /// The addresses that it names.
    pub fn urls(&self) -> Vec<&Url> {
        match self {
            Self::Auto => Vec::new(),
            Self::Url(url) => vec![url],
            Self::Pool(members) => members.iter().map(|member| &member.url).collect(),
        }
    }
}

/// A pool may have so many members.
pub const MOST_MEMBERS: usize = 64;

impl Member {
    fn parse(place: &str, value: &Value) -> Result<Self, SettingsError> {
        let Value::Object(members) = value else {
            return base_url(place, field::text(place, value)?.trim()).map(Self::from);
        };
        let mut url = None;
        let mut weight = 1.0;
        for (name, value) in members {
            let Some(member) = ENDPOINT_MEMBER.iter().find(|member| member.name == name) else {
                return Err(SettingsError::unknown_member(
                    place,
                    name,
                    ENDPOINT_MEMBER.iter().map(|member| member.name),
                ));
            };
            let param = format!("{place}.{name}");
            match name.as_str() {
                "url" => url = Some(base_url(&param, field::text(&param, value)?.trim())?),
                _ if value.is_null() => {}
                _ => weight = member.number(&param, value)?,
            }
        }
        let url = url.ok_or_else(|| SettingsError::missing(place, format!("`{place}` has no `url`")))?;
        Ok(Self { url, weight })
    }
}

/// Reads a base URL: http or https, with a host, without user, query or fragment. An empty path becomes `/v1`,
/// and slashes at the end are taken off.
pub fn base_url(param: &str, text: &str) -> Result<Url, SettingsError> {
    let refused = |why: &str| Err(SettingsError::invalid(param, format!("`{param}` {why}")));
    // The text is not repeated before it is known to hold no password.
    let Ok(mut url) = Url::parse(text) else {
        return refused("must be a URL such as https://api.openai.com/v1");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return refused("must be a URL that begins with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("must not hold a user or password; give the key as `api_key`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("must not hold a query or fragment; it is the address to which /chat/completions is added");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    // The calls of two APIs, which are made below the address; the longer one first.
    for call in ["/chat/completions", "/completions"] {
        if path.to_ascii_lowercase().ends_with(call) {
            return refused(&format!("is the address to which `{call}` is added; leave out this end of it"));
        }
    }
    url.set_path(if path.is_empty() { "/v1" } else { &path });
    Ok(url)
}

/// Who chose an address, and so how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// Whoever may call `/configure`.
    Request,
    /// The operator, by an environment variable: plain http is theirs to allow.
    Operator,
}

/// Where plain http may go besides loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Hosts, as `name` for any port or `name:port`, lower case.
    pub allow_http: Vec<String>,
}

impl OutboundPolicy {
    /// Refuses link-local and metadata addresses always, and plain http beyond loopback unless it is allowed.
    pub fn check(&self, param: &str, url: &Url, chosen_by: ChosenBy) -> Result<(), SettingsError> {
        let host = url.host().expect("a base URL has a host");
        if is_forbidden(&host) {
            return Err(SettingsError::invalid(
                param,
                format!(
                    "`{param}` must not lead to {host}: link-local, multicast and metadata addresses are never called"
                ),
            ));
        }
        if url.scheme() == "https" || chosen_by == ChosenBy::Operator || is_loopback(&host) || self.allows(url) {
            return Ok(());
        }
        Err(SettingsError::invalid(
            param,
            format!(
                "`{param}` sends plain http to {host}, which is not this machine; use https, or have the operator add \
                 {host:?} to `outbound.allow_http`",
                host = host.to_string()
            ),
        ))
    }

    fn allows(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        self.allow_http.iter().any(|allowed| allowed == host || *allowed == with_port)
    }
}

/// Whether a connection to a host of this name may go to this address, which its name was resolved to just now. What
/// names lead to is not for their owners to choose freely: a name that is this machine's stays on it, and no name
/// leads to link-local, multicast and metadata addresses.
pub fn may_be_called(host: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    !is_forbidden_address(address) && (!is_loopback(&Host::Domain(host)) || address.is_loopback())
}

/// Whether the host is this machine, by its name or literal address.
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.is_loopback(),
            None => address.is_loopback(),
        },
    }
}

fn is_forbidden(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            matches!(name.trim_end_matches('.'), "metadata.google.internal" | "metadata" | "instance-data")
        }
        Host::Ipv4(address) => is_forbidden_address(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_forbidden_address(IpAddr::V6(*address)),
    }
}

/// Link-local, unspecified, multicast and broadcast addresses, and the metadata services outside link-local.
fn is_forbidden_address(address: IpAddr) -> bool {
    /// Alibaba Cloud's metadata service.
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    /// The metadata service of AWS over IPv6.
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(address) => {
            address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address == METADATA_V4
        }
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_forbidden_address(IpAddr::V4(mapped));
            }
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address == METADATA_V6
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, allow_http: &[&str], chosen_by: ChosenBy) -> Result<String, String> {
        let policy = OutboundPolicy { allow_http: allow_http.iter().map(|host| (*host).to_owned()).collect() };
        let url = base_url("endpoint", text).map_err(|error| error.message)?;
        policy.check("endpoint", &url, chosen_by).map_err(|error| error.message)?;
        Ok(url.to_string())
    }

    #[test]
    fn an_empty_path_gets_v1_and_any_other_is_kept_without_its_last_slash() {
        assert_eq!(check("http://localhost:9999", &[], ChosenBy::Request).unwrap(), "http://localhost:9999/v1");
        assert_eq!(check("https://api.example.com/", &[], ChosenBy::Request).unwrap(), "https://api.example.com/v1");
        assert_eq!(
            check("https://api.example.com/openai/v2/", &[], ChosenBy::Request).unwrap(),
            "https://api.example.com/openai/v2"
        );
    }

    #[test]
    fn plain_http_goes_to_this_machine_or_where_the_operator_allows() {
        for this_machine in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:80", "http://[::ffff:127.0.0.1]"] {
            assert!(check(this_machine, &[], ChosenBy::Request).is_ok(), "{this_machine}");
        }
        let refused = check("http://gpu-1:8000/v1", &[], ChosenBy::Request).unwrap_err();
        assert!(refused.contains("outbound.allow_http"), "{refused}");
        assert!(check("http://gpu-1:8000/v1", &["gpu-1"], ChosenBy::Request).is_ok());
        assert!(check("http://gpu-1:8000/v1", &["gpu-1:8000"], ChosenBy::Request).is_ok());
        assert!(check("http://gpu-1:8001/v1", &["gpu-1:8000"], ChosenBy::Request).is_err());
        assert!(check("http://localhost.evil.example/v1", &[], ChosenBy::Request).is_err());
        assert!(check("http://upstream/v1", &[], ChosenBy::Operator).is_ok());
    }

    #[test]
    fn no_name_leads_to_an_address_that_is_never_called_and_this_machines_stay_on_it() {
        for (host, address, expected) in [
            ("api.example.com", "93.184.215.14", true),
            ("api.example.com", "10.0.0.7", true),
            ("api.example.com", "127.0.0.1", true),
            ("api.example.com", "169.254.169.254", false),
            ("api.example.com", "::ffff:169.254.169.254", false),
            ("api.example.com", "fe80::1", false),
            ("api.example.com", "0.0.0.0", false),
            ("localhost", "127.0.0.1", true),
            ("localhost", "::1", true),
            ("localhost", "::ffff:127.0.0.1", true),
            ("gpu.localhost.", "10.0.0.7", false),
        ] {
            assert_eq!(may_be_called(host, address.parse().unwrap()), expected, "{host} {address}");
        }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_however_they_are_written() {
        for address in [
            "http://169.254.169.254/latest",
            "https://169.254.169.254",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]",
            "http://[fe80::1]",
            "http://[fd00:ec2::254]",
            "http://metadata.google.internal",
            "http://METADATA.google.internal.",
            "http://0.0.0.0:8000",
        ] {
            for chosen_by in [ChosenBy::Request, ChosenBy::Operator] {
                let host = Url::parse(address).unwrap().host_str().unwrap().to_owned();
                let refused = check(address, &[&host], chosen_by).unwrap_err();
                assert!(refused.contains("never called"), "{address}: {refused}");
            }
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_without_repeating_it() {
        for text in ["https://me:hunter2@api.example.com", "https://hunter2@api.example.com"] {
            let refused = check(text, &[], ChosenBy::Request).unwrap_err();
            assert!(refused.contains("api_key") && !refused.contains("hunter2"), "{refused}");
        }
        for text in ["ftp://x", "api.example.com", "https://", "file:///etc/passwd", "https://x/v1?key=hunter2", "//x"]
        {
            assert!(check(text, &[], ChosenBy::Request).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_auto_a_url_or_a_list_of_them() {
        let parse = |value: Value| Endpoint::parse_pool("endpoint", &value);
        let url = |text: &str| -> Url { text.parse().unwrap() };
        assert_eq!(parse(json!("auto")).unwrap(), Endpoint::Auto);
        assert_eq!(parse(json!("http://a")).unwrap(), Endpoint::Url(url("http://a/v1")));
        assert_eq!(parse(json!(["http://a"])).unwrap(), Endpoint::Url(url("http://a/v1")));
        let pool = parse(json!(["http://a", {"url": "http://b/v2/"}, {"url": "http://c", "weight": 2.5}])).unwrap();
        let expected = [("http://a/v1", 1.0), ("http://b/v2", 1.0), ("http://c/v1", 2.5)];
        assert_eq!(pool, Endpoint::Pool(expected.map(|(text, weight)| Member { url: url(text), weight }).to_vec()));
        assert_eq!(pool.urls().len(), 3);
    }

    #[test]
    fn an_address_that_holds_the_call_already_is_refused_with_what_to_leave_out() {
        for (text, call) in [
            ("http://localhost/v1/chat/completions", "`/chat/completions` is added; leave out"),
            ("http://localhost/v1/Chat/Completions//", "`/chat/completions` is added; leave out"),
            ("http://localhost/completions", "`/completions` is added; leave out"),
        ] {
            let refused = check(text, &[], ChosenBy::Request).unwrap_err();
            assert!(refused.contains(call), "{text}: {refused}");
        }
        assert!(check("http://localhost/chat", &[], ChosenBy::Request).is_ok());
        assert!(check("http://localhost/my-completions", &[], ChosenBy::Request).is_ok());
    }

    #[test]
    fn what_is_no_endpoint_at_all_is_told_all_that_may_be_one() {
        for (value, found) in [(json!({"url": "http://a"}), "not an object"), (json!(1), "not a number")] {
            let message = Endpoint::parse_pool("endpoint", &value).unwrap_err().message;
            assert!(message.contains("a list of URLs and of objects with `url`"), "{message}");
            assert!(message.ends_with(found), "{message}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_a_pool_is_refused_by_the_place_at_fault() {
        for (value, param) in [
            (json!([]), "endpoint"),
            (json!(["auto", "http://a"]), "endpoint[0]"),
            (json!(["http://a", 1]), "endpoint[1]"),
            (json!(["http://a", "http://a/v1/"]), "endpoint[1]"),
            (json!(["http://a", {"weight": 1}]), "endpoint[1]"),
            (json!(["http://a", {"url": "b"}]), "endpoint[1].url"),
            (json!(["http://a", "http://b/v1/chat/completions"]), "endpoint[1]"),
            (json!([{"url": "http://b/v1/completions/"}]), "endpoint[0].url"),
            (json!([{"url": "http://a", "weight": 0}]), "endpoint[0].weight"),
            (json!([{"url": "http://a", "weight": -1}]), "endpoint[0].weight"),
            (json!([{"url": "http://a", "wieght": 1}]), "endpoint[0].wieght"),
            (json!((0..=MOST_MEMBERS).map(|at| format!("http://a:{}", at + 1)).collect::<Vec<_>>()), "endpoint"),
        ] {
            let error = Endpoint::parse_pool("endpoint", &value).unwrap_err();
            assert_eq!(error.param, param, "{value}");
        }
        let error = Endpoint::parse_pool("endpoint", &json!(["http://u:hunter2@a", "http://b"])).unwrap_err();
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        assert!(Endpoint::parse("judge_base_url", &json!(["http://a"])).is_err(), "a judge has one address");
    }
}
