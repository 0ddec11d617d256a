//! Who may ask: keys that sign and keys that are borne, checked as AWS checks them.

use serde::Deserialize;

use super::failure::Failure;
use super::signature::{Authorization, payload_hash, unix_seconds};
use super::wire::Request;

/// How far the time of a signature may be from the clock.
const SKEW_S: i64 = 300;

/// A key that signs.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Of temporary credentials, which are nothing without it.
    pub session_token: Option<String>,
    /// They were good once.
    pub expired: bool,
    /// They are good, and allow nothing.
    pub denied: bool,
}

/// What the stub knows of its callers.
#[derive(Clone)]
pub struct Callers {
    pub credentials: Vec<Credentials>,
    /// Keys for `Authorization: Bearer`.
    pub bearer_keys: Vec<String>,
    pub region: String,
}

impl Credentials {
    pub fn new(access_key_id: &str, secret_access_key: &str) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            ..Self::default()
        }
    }

    pub fn with_session_token(mut self, token: &str) -> Self {
        self.session_token = Some(token.to_owned());
        self
    }
}

impl Callers {
    /// Checks who asks, at `now` in seconds since 1970.
    ///
    /// # Errors
    ///
    /// What AWS answers to whom it does not know.
    pub fn check(&self, request: &Request, now: i64) -> Result<(), Failure> {
        let Some(value) = request.header("authorization") else {
            return Err(Failure::new("MissingAuthenticationTokenException"));
        };
        if let Some(key) = value.strip_prefix("Bearer ") {
            return if self.bearer_keys.iter().any(|known| known == key) {
                Ok(())
            } else {
                let message = "Authentication failed: Please make sure your API Key is valid.";
                Err(Failure::saying("AccessDeniedException", message))
            };
        }
        let authorization =
            Authorization::parse(value).map_err(|message| Failure::saying("IncompleteSignatureException", message))?;
        let credentials = self.check_signature(&authorization, request, now)?;
        if credentials.expired {
            return Err(Failure::new("ExpiredTokenException"));
        }
        if credentials.denied {
            let message = "User: arn:aws:iam::123456789012:user/stub is not authorized to perform: bedrock:InvokeModel \
                           because no identity-based policy allows the bedrock:InvokeModel action";
            return Err(Failure::saying("AccessDeniedException", message));
        }
        Ok(())
    }

    fn check_signature(
        &self,
        authorization: &Authorization,
        request: &Request,
        now: i64,
    ) -> Result<&Credentials, Failure> {
        let unknown = || Failure::new("UnrecognizedClientException");
        let wrong = |message: String| Failure::saying("InvalidSignatureException", message);
        let known = self.credentials.iter().find(|known| known.access_key_id == authorization.key_id);
        let credentials = known.ok_or_else(unknown)?;
        if request.header("x-amz-security-token") != credentials.session_token.as_deref() {
            return Err(unknown());
        }
        let Some(time) = request.header("x-amz-date") else {
            let message = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
            return Err(Failure::saying("IncompleteSignatureException", message));
        };
        let signed_at = unix_seconds(time).ok_or_else(|| {
            Failure::saying(
                "IncompleteSignatureException",
                format!("Date must be in ISO-8601 'basic format'. Got '{time}'."),
            )
        })?;
        if signed_at < now - SKEW_S {
            return Err(wrong(format!(
                "Signature expired: {time} is now earlier than the time of the server - 5 min."
            )));
        }
        if signed_at > now + SKEW_S {
            return Err(wrong(format!(
                "Signature not yet current: {time} is still later than the time of the server + 5 min."
            )));
        }
        if !time.starts_with(&authorization.date) {
            let date = &authorization.date;
            return Err(wrong(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != '{}', from '{time}'.",
                &time[..8]
            )));
        }
        if authorization.region != self.region {
            let region = &authorization.region;
            return Err(wrong(format!("Credential should be scoped to a valid region, not '{region}'.")));
        }
        if authorization.service != "bedrock" {
            return Err(wrong("Credential should be scoped to correct service: 'bedrock'.".to_owned()));
        }
        // What decides must be signed: else whoever is between could change it.
        for (name, _) in &request.headers {
            let decides = name == "host" || name.starts_with("x-amz-");
            if decides && !authorization.signed_headers.contains(name) {
                return Err(wrong(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
            }
        }
        let told_hash = request.header("x-amz-content-sha256");
        let hash_is_wrong = told_hash.is_some_and(|told| told != payload_hash(&request.body));
        let expected = authorization.expected(request, time, &credentials.secret_access_key);
        if hash_is_wrong || expected != authorization.signature {
            return Err(Failure::new("InvalidSignatureException"));
        }
        Ok(credentials)
    }
}

/// What a request says of who asks: the ID of the key that signed it, which is no secret; of a key that is borne enough
/// to know it by and too little to use.
pub fn key_id(request: &Request) -> Option<String> {
    let value = request.header("authorization")?;
    if value.starts_with("Bearer ") {
        return Some(value.chars().take("Bearer ".len() + 4).chain("…".chars()).collect());
    }
    Authorization::parse(value).ok().map(|authorization| authorization.key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "20250102T030405Z";
    const NOW: i64 = 1_735_787_045;
    const SECRET: &str = "secret";

    fn callers() -> Callers {
        let temporary = Credentials::new("ASIATEMPORARY", SECRET).with_session_token("token");
        let expired = Credentials { expired: true, ..Credentials::new("AKIAEXPIRED", SECRET) };
        let denied = Credentials { denied: true, ..Credentials::new("AKIADENIED", SECRET) };
        Callers {
            credentials: vec![Credentials::new("AKIAKNOWN", SECRET), temporary, expired, denied],
            bearer_keys: vec!["bedrock-api-key".to_owned()],
            region: "us-east-1".to_owned(),
        }
    }

    fn unsigned() -> Request {
        let headers = [("host", "localhost:8080"), ("content-type", "application/json"), ("x-amz-date", TIME)];
        Request {
            method: "POST".to_owned(),
            target: "/model/anthropic.claude-v2%3A1/converse".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: b"{}".to_vec(),
        }
    }

    /// Signed with `secret`; every header that is there is signed.
    fn signed(mut request: Request, key_id: &str, scope: &str, secret: &str) -> Request {
        let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let value = |signature: &str| {
            let names = names.join(";");
            format!(
                "AWS4-HMAC-SHA256 Credential={key_id}/{scope}/aws4_request, SignedHeaders={names}, Signature={signature}"
            )
        };
        let authorization = Authorization::parse(&value("0")).unwrap();
        let signature = authorization.expected(&request, TIME, secret);
        let header = ("authorization".to_owned(), value(&signature));
        request.headers.push(header);
        request
    }

    fn known(request: Request) -> Request {
        signed(request, "AKIAKNOWN", "20250102/us-east-1/bedrock", SECRET)
    }

    fn refusal_at(request: &Request, now: i64) -> (String, String) {
        let refusal = callers().check(request, now).unwrap_err();
        assert_eq!(refusal.status(), 403);
        (refusal.kind.clone(), refusal.message())
    }

    fn refusal(request: &Request) -> String {
        refusal_at(request, NOW).0
    }

    #[test]
    fn who_signs_with_a_known_secret_is_let_in() {
        assert_eq!(callers().check(&known(unsigned()), NOW), Ok(()));
        assert_eq!(key_id(&known(unsigned())).as_deref(), Some("AKIAKNOWN"));
        let mut temporary = unsigned();
        temporary.headers.push(("x-amz-security-token".to_owned(), "token".to_owned()));
        let temporary = signed(temporary, "ASIATEMPORARY", "20250102/us-east-1/bedrock", SECRET);
        assert_eq!(callers().check(&temporary, NOW), Ok(()));
    }

    #[test]
    fn whatever_was_changed_after_signing_is_noticed() {
        for change in [
            (|request| request.body = b"{ }".to_vec()) as fn(&mut Request),
            |request| request.target = "/model/anthropic.claude-v2%3A0/converse".to_owned(),
            |request| request.target = "/model/anthropic.claude-v2:1/converse".to_owned(),
            |request| request.target.push_str("?debug=1"),
            |request| request.method = "PUT".to_owned(),
            |request| request.headers[0].1 = "elsewhere:8080".to_owned(),
            |request| request.headers[1].1 = "text/plain".to_owned(),
            |request| request.headers[2].1 = "20250102T030406Z".to_owned(),
            |request| request.headers.push(("x-amz-content-sha256".to_owned(), "0".to_owned())),
            |request| request.headers.push(("x-amz-anything".to_owned(), "unsigned".to_owned())),
        ] {
            let mut request = known(unsigned());
            change(&mut request);
            assert_eq!(refusal(&request), "InvalidSignatureException", "{request:?}");
        }
        // What is neither signed nor decides anything may come on the way.
        let mut request = known(unsigned());
        request.headers.push(("x-forwarded-for".to_owned(), "::1".to_owned()));
        assert!(callers().check(&request, NOW).is_ok());
    }

    #[test]
    fn a_payload_hash_that_is_told_must_be_right() {
        let with_hash = |hash: &str| {
            let mut request = unsigned();
            request.headers.push(("x-amz-content-sha256".to_owned(), hash.to_owned()));
            known(request)
        };
        assert!(callers().check(&with_hash(&payload_hash(b"{}")), NOW).is_ok());
        assert_eq!(refusal(&with_hash(&payload_hash(b"[]"))), "InvalidSignatureException");
        assert_eq!(refusal(&with_hash("UNSIGNED-PAYLOAD")), "InvalidSignatureException");
    }

    #[test]
    fn another_secret_region_service_or_day_is_refused() {
        let with = |scope: &str, secret: &str| refusal_at(&signed(unsigned(), "AKIAKNOWN", scope, secret), NOW);
        let (kind, message) = with("20250102/us-east-1/bedrock", "wrong");
        assert_eq!(kind, "InvalidSignatureException");
        assert!(message.starts_with("The request signature we calculated does not match"), "{message}");
        for (scope, said) in [
            ("20250102/eu-west-1/bedrock", "Credential should be scoped to a valid region, not 'eu-west-1'."),
            ("20250102/us-east-1/s3", "Credential should be scoped to correct service: 'bedrock'."),
            ("20250101/us-east-1/bedrock", "Date in Credential scope does not match"),
        ] {
            let (kind, message) = with(scope, SECRET);
            assert_eq!(kind, "InvalidSignatureException");
            assert!(message.starts_with(said), "{message}");
        }
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_either_way() {
        let request = known(unsigned());
        for now in [NOW - 300, NOW, NOW + 300] {
            assert!(callers().check(&request, now).is_ok());
        }
        let (kind, message) = refusal_at(&request, NOW + 301);
        assert_eq!(kind, "InvalidSignatureException");
        assert!(message.starts_with("Signature expired: 20250102T030405Z is now earlier than"), "{message}");
        let (_, message) = refusal_at(&request, NOW - 301);
        assert!(message.starts_with("Signature not yet current: 20250102T030405Z is still later than"), "{message}");
    }

    #[test]
    fn who_is_not_known_or_no_longer_is_told_so() {
        let scope = "20250102/us-east-1/bedrock";
        assert_eq!(refusal(&unsigned()), "MissingAuthenticationTokenException");
        let (kind, message) = refusal_at(&signed(unsigned(), "AKIAOTHER", scope, SECRET), NOW);
        assert_eq!(kind, "UnrecognizedClientException");
        assert_eq!(message, "The security token included in the request is invalid.");
        // Temporary credentials without their token, with another's, and a token that belongs to none.
        assert_eq!(refusal(&signed(unsigned(), "ASIATEMPORARY", scope, SECRET)), "UnrecognizedClientException");
        for key_id in ["ASIATEMPORARY", "AKIAKNOWN"] {
            let mut request = unsigned();
            request.headers.push(("x-amz-security-token".to_owned(), "another".to_owned()));
            assert_eq!(refusal(&signed(request, key_id, scope, SECRET)), "UnrecognizedClientException");
        }
        assert_eq!(refusal(&signed(unsigned(), "AKIAEXPIRED", scope, SECRET)), "ExpiredTokenException");
        assert_eq!(refusal(&signed(unsigned(), "AKIADENIED", scope, SECRET)), "AccessDeniedException");
        // Who has not proved who it is learns nothing of the key.
        assert_eq!(refusal(&signed(unsigned(), "AKIAEXPIRED", scope, "wrong")), "InvalidSignatureException");
        let mut odd = unsigned();
        odd.headers.push(("authorization".to_owned(), "AWS4-HMAC-SHA256 Credential=x".to_owned()));
        assert_eq!(refusal(&odd), "IncompleteSignatureException");
        let mut dateless = known(unsigned());
        dateless.headers.retain(|(name, _)| name != "x-amz-date");
        assert_eq!(refusal(&dateless), "IncompleteSignatureException");
    }

    #[test]
    fn a_key_that_is_borne_is_known_or_refused() {
        let bearing = |key: &str| {
            let mut request = unsigned();
            request.headers.push(("authorization".to_owned(), format!("Bearer {key}")));
            request
        };
        assert_eq!(callers().check(&bearing("bedrock-api-key"), NOW), Ok(()));
        assert_eq!(key_id(&bearing("bedrock-api-key")).as_deref(), Some("Bearer bedr…"));
        let (kind, message) = refusal_at(&bearing("another"), NOW);
        assert_eq!(kind, "AccessDeniedException");
        assert_eq!(message, "Authentication failed: Please make sure your API Key is valid.");
    }
}
