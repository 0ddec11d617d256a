//! What Bedrock as a provider is made of: the region, the address and the credentials, from the configuration, the
//! environment and the operator's files. Nobody is asked: what only a call can find out is a warning at most.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::config::active::ActiveSettings;
use crate::config::endpoint::{ChosenBy, Endpoint, Member, base_url};
use crate::config::provider::AWS_ENDPOINT_VARIABLES;
use crate::config::secret::SecretSource;
use crate::config::{Environment, SettingsError};
use crate::providers::bedrock::{Aws, Credentials, Keys, ProfileFiles, ProfileSays, usual_address};

/// The variables that name a region.
const REGION_VARIABLES: [&str; 3] = ["AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"];
/// A key of Bedrock's own.
const KEY_VARIABLE: &str = "AWS_BEARER_TOKEN_BEDROCK";
const REGION: &str = "extra_args.aws_region_name";

/// Where Bedrock is called, and as whom.
pub struct Found {
    pub aws: Aws,
    /// Sent in place of a signature.
    pub api_key: Option<SecretString>,
    pub members: Vec<Member>,
    pub chosen_by: ChosenBy,
    pub warnings: Vec<String>,
}

/// Settles where a configuration's calls to Bedrock go and with what.
///
/// # Errors
///
/// When no region is named, a reference leads nowhere, keys are incomplete, a profile is not there, or credentials that
/// the configuration does not name would go to an address that it does.
pub fn find(settings: &ActiveSettings, environment: &Environment) -> Result<Found, SettingsError> {
    let args = &settings.extra_args.aws;
    let files = profile_files(environment);
    let profile = args.profile_name.as_deref().or_else(|| environment.var("AWS_PROFILE")).unwrap_or("default");
    let says = files.profile(profile).map_err(|why| unreadable(&files, &why))?;
    let region = settled_region(settings, environment, says.as_ref())?;
    let own = own_address(&region, environment)?;
    let (members, chosen_by) = addresses(settings, environment, &own)?;
    let mut warnings = Vec::new();
    if let Some(other) = region_of_model(settings)?.filter(|other| *other != region) {
        warnings.push(format!("the model is one of the region {other}, but Bedrock is called in {region}"));
    }
    let (credentials, api_key) = {
        let named = named_credentials(settings, environment, &files, says.as_ref())?;
        let is_own = |member: &Member| is_of_aws(&member.url, &region);
        match named {
            Some(named) => named,
            None if chosen_by == ChosenBy::Request && !members.iter().all(is_own) => {
                return Err(SettingsError::missing(
                    "extra_args.aws_access_key_id",
                    "credentials are missing: those of the daemon are only for AWS's own addresses; name them in \
                     `extra_args` (`aws_access_key_id` and `aws_secret_access_key`, such as `env:AWS_ACCESS_KEY_ID`, or \
                     `aws_profile_name`) to have them used at this `endpoint`",
                ));
            }
            None => usual_credentials(environment, files, profile, says.as_ref(), &mut warnings)?,
        }
    };
    Ok(Found { aws: Aws { region, credentials }, api_key, members, chosen_by, warnings })
}

/// The fields that a configuration leaves to variables and that these give, with the variable.
pub fn usual_variables(settings: &ActiveSettings, environment: &Environment) -> Vec<(&'static str, &'static str)> {
    let args = &settings.extra_args.aws;
    let mut variables = Vec::new();
    let first_set = |names: &[&'static str]| names.iter().copied().find(|name| environment.var(name).is_some());
    if settings.endpoint == Endpoint::Auto && args.runtime_endpoint == Endpoint::Auto {
        variables.extend(first_set(AWS_ENDPOINT_VARIABLES).map(|name| ("endpoint", name)));
    }
    let is_named = settings.api_key.is_some() || args.access_key_id.is_some() || args.profile_name.is_some();
    if !is_named {
        variables.extend(first_set(&[KEY_VARIABLE]).map(|name| ("api_key", name)));
    }
    variables
}

/// Whether the operator has named credentials for AWS, so that requests may name the provider.
pub fn is_usual(environment: &Environment) -> bool {
    [KEY_VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|name| environment.var(name).is_some())
}

fn settled_region(
    settings: &ActiveSettings,
    environment: &Environment,
    says: Option<&ProfileSays>,
) -> Result<String, SettingsError> {
    let of_model = region_of_model(settings)?;
    let of_variable = REGION_VARIABLES.iter().find_map(|name| environment.var(name)).map(str::trim);
    let of_profile = says.and_then(|says| says.region.as_deref());
    let named = settings.extra_args.aws.region_name.as_deref();
    match named.or(of_model).or(of_variable).or(of_profile) {
        Some(text) if is_region(text) => Ok(text.to_owned()),
        Some(text) => {
            let message = format!("`{text}` is no region of AWS: name one as `{REGION}`, such as us-east-1");
            Err(SettingsError::invalid(REGION, message))
        }
        None => Err(SettingsError::missing(
            REGION,
            format!("the region is missing: name it as `{REGION}`, such as us-east-1, or set AWS_REGION"),
        )),
    }
}

/// Whether this is one label of a host's name: anything else would lead elsewhere.
fn is_region(text: &str) -> bool {
    let is_label = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    !text.is_empty() && is_label && text.len() <= 63
}

fn region_of_model(settings: &ActiveSettings) -> Result<Option<&str>, SettingsError> {
    let model = settings.model_mapping.get(&settings.model).unwrap_or(&settings.model);
    Ok(region_of_arn(settings.provider.resolve(model)?.1))
}

/// The region that stands in the name of a resource: `arn:aws:bedrock:REGION:ACCOUNT:…`, or of an endpoint of
/// SageMaker's that is called by way of Bedrock.
fn region_of_arn(model: &str) -> Option<&str> {
    let mut parts = model.strip_prefix("arn:")?.split(':');
    let (_partition, service, region) = (parts.next()?, parts.next()?, parts.next()?);
    (["bedrock", "sagemaker"].contains(&service) && !region.is_empty()).then_some(region)
}

fn own_address(region: &str, environment: &Environment) -> Result<Url, SettingsError> {
    let is_set = |name: &str| environment.var(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    usual_address(region, is_set("AWS_USE_FIPS_ENDPOINT"), is_set("AWS_USE_DUALSTACK_ENDPOINT")).ok_or_else(|| {
        SettingsError::invalid(REGION, format!("there is no address of Bedrock known for the region `{region}`"))
    })
}

fn addresses(
    settings: &ActiveSettings,
    environment: &Environment,
    own: &Url,
) -> Result<(Vec<Member>, ChosenBy), SettingsError> {
    let named = &settings.extra_args.aws.runtime_endpoint;
    if *named != Endpoint::Auto && settings.endpoint != Endpoint::Auto {
        let message = "`endpoint` and `extra_args.aws_bedrock_runtime_endpoint` each name an address; leave one out";
        return Err(SettingsError::invalid("extra_args.aws_bedrock_runtime_endpoint", message));
    }
    match if *named == Endpoint::Auto { &settings.endpoint } else { named } {
        Endpoint::Url(url) => Ok((vec![url.clone().into()], ChosenBy::Request)),
        Endpoint::Pool(members) => Ok((members.clone(), ChosenBy::Request)),
        Endpoint::Auto => {
            let variable = AWS_ENDPOINT_VARIABLES.iter().find_map(|name| Some((*name, environment.var(name)?)));
            let url = match variable {
                Some((name, text)) => base_url(name, text.trim()).map_err(|error| {
                    SettingsError::invalid("endpoint", format!("`endpoint` is `auto`, and {}", error.message))
                })?,
                None => own.clone(),
            };
            Ok((vec![url.into()], ChosenBy::Operator))
        }
    }
}

/// Whether an address is AWS's: one of the region's own, or one of Bedrock's in somebody's private network.
fn is_of_aws(url: &Url, region: &str) -> bool {
    let is_private = |host: &str| host.ends_with(&format!(".bedrock-runtime.{region}.vpce.amazonaws.com"));
    let variants = [(false, false), (false, true), (true, false), (true, true)];
    let mut own = variants.iter().filter_map(|(fips, dual_stack)| usual_address(region, *fips, *dual_stack));
    own.any(|own| own.origin() == url.origin()) || (url.scheme() == "https" && url.host_str().is_some_and(is_private))
}

type Named = (Credentials, Option<SecretString>);

/// The credentials that a configuration names; `None` where it names none.
fn named_credentials(
    settings: &ActiveSettings,
    environment: &Environment,
    files: &ProfileFiles,
    says: Option<&ProfileSays>,
) -> Result<Option<Named>, SettingsError> {
    let args = &settings.extra_args.aws;
    let given = |source: &Option<SecretSource>, name: &str| {
        source.as_ref().map(|source| source.resolve(&format!("extra_args.{name}"), environment)).transpose()
    };
    let api_key = settings.api_key.as_ref().map(|source| source.resolve("api_key", environment)).transpose()?;
    let id = given(&args.access_key_id, "aws_access_key_id")?;
    let key = given(&args.secret_access_key, "aws_secret_access_key")?;
    let session_token = given(&args.session_token, "aws_session_token")?;
    let missing = |name: &str, other: &str| {
        let (name, other) = (format!("extra_args.{name}"), format!("extra_args.{other}"));
        Err(SettingsError::missing(name.as_str(), format!("`{name}` is missing beside `{other}`")))
    };
    let several = |one: &str, other: &str| {
        Err(SettingsError::invalid(one, format!("`{one}` and `{other}` each say as whom to call; leave one out")))
    };
    let keys = match (id, key) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(Keys { access_key_id, secret_access_key, session_token })
        }
        (None, Some(_)) => return missing("aws_access_key_id", "aws_secret_access_key"),
        (Some(_), None) => return missing("aws_secret_access_key", "aws_access_key_id"),
        (None, None) if session_token.is_some() => return missing("aws_access_key_id", "aws_session_token"),
        (None, None) => None,
    };
    match (api_key, keys, &args.profile_name) {
        (Some(_), Some(_), _) => several("api_key", "extra_args.aws_access_key_id"),
        (Some(_), None, Some(_)) => several("api_key", "extra_args.aws_profile_name"),
        (None, Some(_), Some(_)) => several("extra_args.aws_profile_name", "extra_args.aws_access_key_id"),
        (Some(key), None, None) => Ok(Some((Credentials::Unsigned, Some(key)))),
        (None, Some(keys), None) => Ok(Some((Credentials::Keys(keys), None))),
        (None, None, Some(name)) => {
            let param = "extra_args.aws_profile_name";
            let why = match says {
                Some(says) if says.has_credentials => {
                    return Ok(Some((Credentials::Profile { name: name.clone(), files: files.clone() }, None)));
                }
                Some(_) => {
                    "says of no credentials: it has neither keys nor `role_arn`, `sso_session` or `credential_process`"
                }
                None => "is in none of the daemon's files of profiles",
            };
            Err(SettingsError::invalid(param, format!("`{param}` `{name}` {why}")))
        }
        (None, None, None) => Ok(None),
    }
}

/// The daemon's own credentials, in the order in which AWS looks for them.
fn usual_credentials(
    environment: &Environment,
    files: ProfileFiles,
    profile: &str,
    says: Option<&ProfileSays>,
    warnings: &mut Vec<String>,
) -> Result<Named, SettingsError> {
    let secret = |name: &str| environment.var(name).map(|value| SecretString::from(value.trim()));
    if let Some(key) = secret(KEY_VARIABLE) {
        return Ok((Credentials::Unsigned, Some(key)));
    }
    if let (Some(access_key_id), Some(secret_access_key)) =
        (secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY"))
    {
        let session_token = secret("AWS_SESSION_TOKEN");
        return Ok((Credentials::Keys(Keys { access_key_id, secret_access_key, session_token }), None));
    }
    if says.is_none() && environment.var("AWS_PROFILE").is_some() {
        warnings.push(format!("AWS_PROFILE names `{profile}`, which is in none of the daemon's files of profiles"));
    }
    /// Variables that tell the SDK of a role, of a web identity or of a container. It reads those of the process.
    const ROLES: [&str; 3] =
        ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    let process = environment.process_alone();
    let is_known =
        says.is_some_and(|says| says.has_credentials) || ROLES.iter().any(|name| process.var(name).is_some());
    if !is_known {
        let what = "no credentials are named: neither in `extra_args` (`aws_access_key_id` and `aws_secret_access_key`, \
                    or `aws_profile_name`), nor as `api_key`, nor by the usual variables and files of AWS";
        let is_off = |value: &str| value.trim().eq_ignore_ascii_case("true");
        if process.var("AWS_EC2_METADATA_DISABLED").is_some_and(is_off) {
            return Err(SettingsError::missing("extra_args.aws_access_key_id", what));
        }
        warnings.push(format!("{what}; the first call asks the machine for the role of its instance"));
    }
    Ok((Credentials::Machine { profile: profile.to_owned(), files }, None))
}

/// The operator's files of profiles, as far as they are there.
fn profile_files(environment: &Environment) -> ProfileFiles {
    let home = environment.path("HOME");
    let file = |variable: &str, name: &str| -> Option<PathBuf> {
        let usual = || Some(home.as_ref()?.join(".aws").join(name));
        environment.path(variable).or_else(usual).filter(|path| path.is_file())
    };
    ProfileFiles {
        config: file("AWS_CONFIG_FILE", "config"),
        credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
    }
}

fn unreadable(files: &ProfileFiles, why: &str) -> SettingsError {
    let paths: Vec<String> =
        [&files.config, &files.credentials].into_iter().flatten().map(|path| path.display().to_string()).collect();
    let message = format!("the daemon's files of profiles cannot be read ({}): {why}", paths.join(", "));
    SettingsError::invalid("extra_args.aws_profile_name", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_resource_stands_in_its_name() {
        for (model, expected) in [
            ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.a.b", Some("us-east-1")),
            ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/a.b", Some("us-gov-west-1")),
            ("arn:aws:sagemaker:eu-west-1:123456789012:endpoint/mine", Some("eu-west-1")),
            ("arn:aws:bedrock:::foundation-model/a.b", None),
            ("arn:aws:iam:us-east-1:1:role/x", None),
            ("us.anthropic.claude", None),
            ("arn:", None),
            ("", None),
        ] {
            assert_eq!(region_of_arn(model), expected, "{model}");
        }
    }

    #[test]
    fn only_addresses_of_bedrock_in_this_very_region_are_aws_own() {
        for (address, expected) in [
            ("https://bedrock-runtime.us-east-1.amazonaws.com/v1", true),
            ("https://bedrock-runtime-fips.us-east-1.amazonaws.com/v1", true),
            ("https://bedrock-runtime.us-east-1.api.aws/v1", true),
            ("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", true),
            ("http://bedrock-runtime.us-east-1.amazonaws.com", false),
            ("http://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", false),
            ("https://bedrock-runtime.us-east-1.amazonaws.com:8443", false),
            ("https://bedrock-runtime.us-west-2.amazonaws.com", false),
            ("https://vpce-1.s3.us-east-1.vpce.amazonaws.com", false),
            ("https://bedrock-runtime.us-east-1.vpce.amazonaws.com.evil.example", false),
            ("https://evilbedrock-runtime.us-east-1.vpce.amazonaws.com", false),
        ] {
            assert_eq!(is_of_aws(&Url::parse(address).unwrap(), "us-east-1"), expected, "{address}");
        }
    }
}
