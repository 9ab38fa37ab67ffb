//! What paths and queries say: decoded once, checked, and refused by name.

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sglhost_core::RunId;
use sglhost_core::limits::ServerLimits;
use sglhost_store::{Page, ProgramReference, is_name};

use crate::ApiError;

/// What a path names.
#[derive(Debug, Default)]
pub(crate) struct Segments(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::invalid("the path is not UTF-8 text"))?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Segments {
    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A program, or a version of it.
    pub(crate) fn reference(&self) -> Result<ProgramReference, ApiError> {
        self.get("ref").parse().map_err(|error: sglhost_store::NotAReference| ApiError::invalid(error.to_string()))
    }

    /// A program, and no version.
    pub(crate) fn program(&self) -> Result<String, ApiError> {
        let name = if self.get("name").is_empty() { self.get("ref") } else { self.get("name") };
        if is_name(name) {
            return Ok(name.to_owned());
        }
        Err(ApiError::invalid(
            "a program is named by 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit",
        ))
    }

    /// A tag.
    pub(crate) fn tag(&self) -> Result<String, ApiError> {
        check_tag(self.get("tag"))
    }

    /// A run.
    pub(crate) fn run(&self) -> Result<RunId, ApiError> {
        self.get("id").parse().map_err(|error: sglhost_core::id::NotARunId| ApiError::invalid(error.to_string()))
    }
}

/// A tag, which is no number: that would be a version.
pub(crate) fn check_tag(tag: &str) -> Result<String, ApiError> {
    if is_name(tag) && !tag.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(tag.to_owned());
    }
    Err(ApiError::invalid(
        "a tag is 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit, and not a number alone",
    ))
}

/// The query's fields; one that is not known is refused.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let fields = Query::<T>::try_from_uri(uri);
    Ok(fields.map_err(|error| ApiError::invalid(format!("the query: {}", error.body_text())))?.0)
}

/// Which part of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    pub(crate) after: Option<String>,
    limit: Option<u32>,
}

impl PageQuery {
    /// With what is not said filled in.
    ///
    /// # Errors
    /// A limit that is out of range.
    pub(crate) fn page(self, limits: &ServerLimits) -> Result<Page, ApiError> {
        let limit = self.limit.unwrap_or(limits.page);
        if limit == 0 || limit > limits.page_max {
            return Err(ApiError::invalid(format!("limit is {limit}; it must be 1 to {}", limits.page_max)));
        }
        Ok(Page { after: self.after, limit })
    }
}
