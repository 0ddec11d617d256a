//! Where Bedrock's runtime is.

use aws_sdk_bedrockruntime::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use futures_util::FutureExt;
use url::Url;

/// The address of the runtime in a region: of its partition, and with the variants that the operator has chosen.
/// `None` for what is no region.
pub fn usual_address(region: &str, fips: bool, dual_stack: bool) -> Option<Url> {
    let is_region = !region.is_empty()
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let params = Params::builder().region(region).use_fips(fips).use_dual_stack(dual_stack).build().ok()?;
    // It is a table that is looked up, not a call.
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).now_or_never()?.ok()?;
    Url::parse(endpoint.url()).ok().filter(|url| is_region && url.has_host())
}

/// Whether an origin is AWS's own in a region, by whichever of its names, so that a wrong region is a wrong address.
pub fn is_usual_origin(origin: &str, region: &str) -> bool {
    let variants = [(false, false), (false, true), (true, false), (true, true)];
    let mut own = variants.iter().filter_map(|(fips, dual_stack)| usual_address(region, *fips, *dual_stack));
    own.any(|own| own.origin().ascii_serialization() == origin)
}

/// The address that the SDK appends its paths to. An address without a path is read as one that ends in `/v1`
/// wherever it is configured.
pub(super) fn base(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    if url.path() == "/v1" { text.trim_end_matches("/v1").to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_own_names() {
        for (region, fips, dual_stack, expected) in [
            ("us-east-1", false, false, "https://bedrock-runtime.us-east-1.amazonaws.com/"),
            ("eu-central-1", true, false, "https://bedrock-runtime-fips.eu-central-1.amazonaws.com/"),
            ("us-west-2", false, true, "https://bedrock-runtime.us-west-2.api.aws/"),
            ("cn-north-1", false, false, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn/"),
            ("us-gov-west-1", false, false, "https://bedrock-runtime.us-gov-west-1.amazonaws.com/"),
        ] {
            assert_eq!(usual_address(region, fips, dual_stack).unwrap().as_str(), expected);
        }
        for nonsense in ["", "evil.example/", "US-EAST-1", "a b", "us-east-1.evil.example", "x@evil"] {
            assert_eq!(usual_address(nonsense, false, false), None, "{nonsense}");
        }
    }

    #[test]
    fn a_path_that_nobody_wrote_is_left_out() {
        let base = |text: &str| base(&Url::parse(text).unwrap());
        assert_eq!(base("http://127.0.0.1:4/v1"), "http://127.0.0.1:4");
        assert_eq!(base("https://gateway.example/bedrock"), "https://gateway.example/bedrock");
        assert_eq!(base("https://gateway.example/"), "https://gateway.example");
    }
}
