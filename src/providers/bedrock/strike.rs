//! What AWS says of a call may quote it: the header that proves who asks, the text that was signed with the session's
//! token in it, and whose account it is. None of that is ours to tell.

/// What stands in place of what is not told.
const REMOVED: &str = "[removed]";

/// What AWS quotes a request after. Nothing that follows is of use to whoever reads an error.
const QUOTES: [&str; 6] = [
    "the canonical string",
    "the string-to-sign",
    "authorization header:",
    "authorization=",
    "x-amz-security-token:",
    "signature=",
];

/// What stands before a token that is borne. The word is one of the language too.
const BEARER: &str = "bearer ";

/// No word of the language is this long after it.
const SHORTEST_TOKEN_CHARS: usize = 20;

/// The prefixes of identifiers of keys: those of users and of sessions, of bearer tokens and of contexts.
const KEY_PREFIXES: [&str; 4] = ["AKIA", "ASIA", "ABIA", "ACCA"];
const KEY_ID_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

/// The digits of an account's number.
const ACCOUNT_DIGITS: usize = 12;

/// No word is this long that is meant to be read: it is a token, a key or a signature.
const LONGEST_WORD_CHARS: usize = 63;

/// Strikes out of AWS's words what tells of keys, tokens, signatures and accounts.
pub(super) fn strike(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let quotes = QUOTES.iter().filter_map(|quote| lower.find(quote));
    let end = quotes.chain(borne_token(&lower)).min().unwrap_or(text.len());
    let mut struck = String::with_capacity(end);
    let mut rest = &text[..end];
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|letter| !is_of_word(letter)).unwrap_or(rest.len());
        if length == 0 {
            struck.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(length);
        struck.push_str(if is_secret(word) { REMOVED } else { word });
        rest = after;
    }
    struck.truncate(struck.trim_end().len());
    struck
}

/// Where a token is quoted that is borne, with the word before it.
fn borne_token(lower: &str) -> Option<usize> {
    let is_of_token = |letter: &char| is_of_word(*letter) || "-._~".contains(*letter);
    let mut places = lower.match_indices(BEARER).map(|(at, _)| at);
    places.find(|at| lower[at + BEARER.len()..].chars().take_while(is_of_token).count() >= SHORTEST_TOKEN_CHARS)
}

/// The letters of base64, of hexadecimal numbers, and of what encodes either.
fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+/=_%".contains(letter)
}

fn is_secret(word: &str) -> bool {
    word.len() > LONGEST_WORD_CHARS || word.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_identifier)
}

fn is_identifier(word: &str) -> bool {
    let is_account = word.len() == ACCOUNT_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_key = KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        && KEY_ID_CHARS.contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_account || is_key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_quoted_is_cut_off() {
        let told = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                    Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String \
                    for this request should have been\n'POST\n/model/x/converse\n\nhost:h\nx-amz-security-token:IQoJb3\n'";
        let struck = strike(told);
        assert!(struck.ends_with("Consult the service documentation for details."), "{struck}");
        for (told, expected) in [
            ("'Bearer bedrock-api-key-c2VjcmV0' not a valid key=value pair", "'"),
            ("Bearer Token has expired", "Bearer Token has expired"),
            ("bearer authentication needs a bearer ABSKc2VjcmV0c2VjcmV0c2VjcmV0", "bearer authentication needs a"),
            ("Missing '=' in Authorization header: 'AWS4-HMAC-SHA256 Credential=x'", "Missing '=' in"),
            (
                "needs 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=x",
                "needs 'Signature' parameter.",
            ),
        ] {
            assert_eq!(strike(told), expected);
        }
    }

    #[test]
    fn accounts_keys_and_tokens_are_struck_wherever_they_stand() {
        let token = "IQoJb3JpZ2luX2VjEOf//////////wEaCXVzLWVhc3QtMSJHMEUCIQDt6u1".repeat(3);
        for (told, expected) in [
            (
                "User: arn:aws:iam::123456789012:user/me is not authorized to perform: bedrock:InvokeModel on resource: \
                 arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2:1",
                "User: arn:aws:iam::[removed]:user/me is not authorized to perform: bedrock:InvokeModel on resource: \
                 arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2:1",
            ),
            ("the key AKIAIOSFODNN7EXAMPLE is no key", "the key [removed] is no key"),
            ("scope ASIAIOSFODNN7EXAMPLE/20250102/us-east-1", "scope [removed]-east-1"),
            (&format!("the token {token} is expired"), "the token [removed] is expired"),
            (&format!("signed {}", "0f".repeat(32)), "signed [removed]"),
            // What only looks like it stays.
            ("198000 + 20000 > 200000, model 20250219", "198000 + 20000 > 200000, model 20250219"),
            ("AKIA and 1234567890123 and größer", "AKIA and 1234567890123 and größer"),
            ("", ""),
        ] {
            assert_eq!(strike(told), expected);
        }
    }
}
