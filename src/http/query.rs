//! Query strings: each route says which parameters it has, and whatever else is there is refused by name.

use std::ops::RangeInclusive;

use actix_web::HttpRequest;
use actix_web::web;

use crate::config::field::did_you_mean;

use super::error::ApiError;
use super::fields::shown;

/// The parameters of a request's query string.
#[derive(Debug)]
pub struct QueryFields(Vec<(String, String)>);

impl QueryFields {
    /// Reads the query string of a route that has these parameters.
    ///
    /// # Errors
    ///
    /// A parameter that the route does not have, or that is there twice.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, ApiError> {
        let web::Query(pairs) = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|_| ApiError::bad_request(None, "invalid_value", "the query string is not one of form fields"))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            let shown = shown(name);
            if !known.contains(&name.as_str()) {
                let message =
                    format!("unknown query parameter `{shown}`{}", did_you_mean(&shown, known.iter().copied()));
                return Err(ApiError::bad_request(Some(&shown), "unknown_field", message));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                let message = format!("the query parameter `{shown}` is there twice; give it once");
                return Err(ApiError::invalid_value(&shown, message));
            }
        }
        Ok(Self(pairs))
    }

    /// A switch, which is off where it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.value(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                let message = format!("the query parameter `{name}` must be true or false, as in `?{name}=true`");
                Err(ApiError::invalid_value(name, message))
            }
        }
    }

    pub fn whole(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (start, end) = (range.start(), range.end());
                let bounds =
                    if *end == i64::MAX { format!("{start} or more") } else { format!("from {start} to {end}") };
                let message = format!("the query parameter `{name}` must be a whole number, {bounds}");
                Err(ApiError::invalid_value(name, message))
            }
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(query: &str) -> Result<QueryFields, ApiError> {
        QueryFields::of(&TestRequest::with_uri(&format!("/x?{query}")).to_http_request(), &["strict", "limit"])
    }

    #[test]
    fn what_a_route_does_not_have_is_refused_by_name() {
        for (query, param, told) in [
            ("stict=true", "stict", "did you mean `strict`?"),
            ("strict=true&zzz", "zzz", "unknown"),
            ("strict=true&strict=true", "strict", "twice"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{query}");
            assert!(error.message.contains(told), "{}", error.message);
        }
    }

    #[test]
    fn values_have_their_types() {
        assert!(!read("").unwrap().flag("strict").unwrap());
        assert!(read("strict=true").unwrap().flag("strict").unwrap());
        assert!(!read("strict=false").unwrap().flag("strict").unwrap());
        assert_eq!(read("limit=7").unwrap().whole("limit", 1..=100).unwrap(), Some(7));
        assert_eq!(read("").unwrap().whole("limit", 1..=100).unwrap(), None);
        for query in ["strict=perhaps", "strict=", "strict"] {
            assert_eq!(read(query).unwrap().flag("strict").unwrap_err().param.as_deref(), Some("strict"), "{query}");
        }
        for query in ["limit=abc", "limit=0", "limit=101", "limit=1.5", "limit=", "limit=99999999999999999999"] {
            let error = read(query).unwrap().whole("limit", 1..=100).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("limit"), "{query}");
            assert!(error.message.contains("from 1 to 100"), "{}", error.message);
        }
    }
}
