//! AWS Signature Version 4 from the side of the server: what a request should have been signed with.
//!
//! Written from AWS's specification ("Create a signed AWS API request") and owing nothing to a client's signer, so that
//! both being wrong alike is unlikely. For a service other than S3 the path is normalised, and encoded once more than on
//! the wire: a model ID with `%3A` in the request line is signed as `%253A`.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::{Date, Month, PrimitiveDateTime, Time};

use super::wire::Request;

/// The one algorithm that is taken.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The parts of an `Authorization` header.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorization {
    pub key_id: String,
    /// Of the credential scope: eight digits.
    pub date: String,
    pub region: String,
    pub service: String,
    /// In lower case, in the order of the header.
    pub signed_headers: Vec<String>,
    pub signature: String,
}

impl Authorization {
    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    ///
    /// What AWS says of a header that misses a part.
    pub fn parse(value: &str) -> Result<Self, String> {
        let parts = value.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '));
        let Some(parts) = parts else {
            return Err(format!("Unsupported AWS 'algorithm': expected {ALGORITHM}."));
        };
        let part = |name: &str| {
            let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| format!("Authorization header requires '{name}' parameter."))
        };
        let (credential, signed_headers, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        // The last four parts are the scope; an ID may hold a slash only by mistake.
        let scope: Vec<&str> = credential.split('/').collect();
        let [key_id, date, region, service, "aws4_request"] = scope[..] else {
            return Err(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got \
                 '{credential}'."
            ));
        };
        Ok(Self {
            key_id: key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
        })
    }

    /// The signature that `request` should bear, in hexadecimal digits. `time` is its `x-amz-date`.
    pub fn expected(&self, request: &Request, time: &str, secret: &str) -> String {
        let canonical = canonical_request(request, &self.signed_headers);
        let text = self.string_to_sign(time, &canonical);
        hex(&hmac(&signing_key(secret, &self.date, &self.region, &self.service), text.as_bytes()))
    }

    fn string_to_sign(&self, time: &str, canonical: &str) -> String {
        let Self { date, region, service, .. } = self;
        let hash = hex(&Sha256::digest(canonical.as_bytes()));
        format!("{ALGORITHM}\n{time}\n{date}/{region}/{service}/aws4_request\n{hash}")
    }
}

/// Seconds since 1970 of a time such as `20150830T123600Z`.
pub fn unix_seconds(time: &str) -> Option<i64> {
    let digits = time.strip_suffix('Z').filter(|time| time.len() == 15 && time.is_ascii())?;
    let number = |from: usize, to: usize| digits[from..to].parse::<u16>().ok();
    let small = |from: usize, to: usize| u8::try_from(number(from, to)?).ok();
    let month = Month::try_from(small(4, 6)?).ok()?;
    let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(6, 8)?).ok()?;
    let time = Time::from_hms(small(9, 11)?, small(11, 13)?, small(13, 15)?).ok()?;
    (digits.as_bytes()[8] == b'T').then(|| PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

/// The hash of a body, in hexadecimal digits.
pub fn payload_hash(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

fn canonical_request(request: &Request, signed_headers: &[String]) -> String {
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, canonical_path(request.path()), canonical_query(request));
    for name in signed_headers {
        let values: Vec<String> =
            request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| single_spaced(value)).collect();
        let _ = writeln!(canonical, "{name}:{}", values.join(","));
    }
    let _ = write!(canonical, "\n{}\n{}", signed_headers.join(";"), payload_hash(&request.body));
    canonical
}

/// Without empty segments, `.` and `..` (RFC 3986, section 5.2.4), then encoded once more.
fn canonical_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(encoded(segment.as_bytes())),
        }
    }
    let ends_in_slash = path.ends_with('/') && !segments.is_empty();
    format!("/{}{}", segments.join("/"), if ends_in_slash { "/" } else { "" })
}

/// Sorted by name and then by value, both encoded.
fn canonical_query(request: &Request) -> String {
    let mut pairs: Vec<(String, String)> = request
        .query()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(&decoded(name)), encoded(&decoded(value))))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn single_spaced(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Percent-encoded but for the unreserved characters of RFC 3986, with digits in upper case.
fn encoded(text: &[u8]) -> String {
    let mut encoded = String::new();
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            byte => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// Undoes percent-encoding. What is no such thing stays as it is.
pub fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    decoded
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> [u8; 32] {
    let first = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
    [region, service, "aws4_request"].iter().fold(first, |key, part| hmac(&key, part.as_bytes()))
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of AWS's test suite for signers.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIME: &str = "20150830T123600Z";

    fn authorization(region: &str, service: &str, signed_headers: &str) -> Authorization {
        let value = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{region}/{service}/aws4_request, \
             SignedHeaders={signed_headers}, Signature=00"
        );
        Authorization::parse(&value).unwrap()
    }

    fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let fixed = [("host", "example.amazonaws.com"), ("x-amz-date", TIME)];
        let headers = fixed.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn signature(request: &Request, signed_headers: &str) -> String {
        authorization("us-east-1", "service", signed_headers).expected(request, TIME, SECRET)
    }

    /// The example that AWS's specification works through, step by step.
    #[test]
    fn the_example_of_the_specification_has_the_published_values() {
        let target = "/?Action=ListUsers&Version=2010-05-08";
        let mut request =
            request("GET", target, &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")], "");
        request.headers[0].1 = "iam.amazonaws.com".to_owned();
        let authorization = authorization("us-east-1", "iam", "content-type;host;x-amz-date");

        let canonical = canonical_request(&request, &authorization.signed_headers);
        assert_eq!(
            canonical,
            "GET\n/\nAction=ListUsers&Version=2010-05-08\n\
             content-type:application/x-www-form-urlencoded; charset=utf-8\nhost:iam.amazonaws.com\n\
             x-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            authorization.string_to_sign(TIME, &canonical),
            "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
             f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
        );
        assert_eq!(
            hex(&signing_key(SECRET, "20150830", "us-east-1", "iam")),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
        assert_eq!(
            authorization.expected(&request, TIME, SECRET),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// Cases of AWS's test suite for signers, by their names there.
    #[test]
    fn the_test_suite_of_aws_has_the_published_signatures() {
        let plain = "host;x-amz-date";
        for (name, method, target, headers, body, signed, expected) in [
            (
                "get-vanilla",
                "GET",
                "/",
                &[][..],
                "",
                plain,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                &[],
                "",
                plain,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/?Param2=value2&Param1=value1",
                &[],
                "",
                plain,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-utf8",
                "GET",
                "/ሴ",
                &[],
                "",
                plain,
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "get-relative-relative",
                "GET",
                "/example1/example2/../..",
                &[],
                "",
                plain,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-slashes",
                "GET",
                "//example//",
                &[],
                "",
                plain,
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "get-header-value-trim",
                "GET",
                "/",
                &[("my-header1", "value1"), ("my-header2", "\"a   b   c\"")],
                "",
                "host;my-header1;my-header2;x-amz-date",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &[("content-type", "application/x-www-form-urlencoded")],
                "Param1=value1",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                "POST",
                "/",
                &[("x-amz-security-token", STS_TOKEN)],
                "",
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            assert_eq!(signature(&request(method, target, headers, body), signed), expected, "{name}");
        }
    }

    const STS_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfp\
                             SPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPk\
                             yQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqB\
                             Az+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    #[test]
    fn a_model_is_signed_encoded_twice() {
        let path =
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.model-v1%3A0/converse";
        let twice = canonical_path(path);
        assert!(twice.starts_with("/model/arn%253Aaws%253Abedrock%253Aus-east-1%253A123456789012%253A"), "{twice}");
        assert!(twice.ends_with("inference-profile%252Fus.model-v1%253A0/converse"), "{twice}");
    }

    #[test]
    fn a_header_that_misses_a_part_is_named() {
        let parse = |value: &str| Authorization::parse(value).unwrap_err();
        assert!(parse("Basic abc").starts_with("Unsupported AWS 'algorithm'"));
        assert_eq!(parse("AWS4-HMAC-SHA256 Signature=1"), "Authorization header requires 'Credential' parameter.");
        assert!(
            parse("AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=1")
                .starts_with("Credential must have exactly 5 slash-delimited elements")
        );
    }

    #[test]
    fn times_are_read_and_what_is_none_is_refused() {
        assert_eq!(unix_seconds("20150830T123600Z"), Some(1_440_938_160));
        assert_eq!(unix_seconds("19700101T000000Z"), Some(0));
        for wrong in ["", "20150830", "20151330T123600Z", "20150830T126000Z", "20150830 123600Z", "Mon, 30 Aug 2015Z"] {
            assert_eq!(unix_seconds(wrong), None, "{wrong}");
        }
    }
}
