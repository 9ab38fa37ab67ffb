//! What paths and queries say: decoded once, checked, and refused by name.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use sglhost_core::RunId;
use sglhost_core::limits::ServerLimits;
use sglhost_store::{Page, ProgramReference, is_name};

use crate::ApiError;

/// Bytes of what a client wrote that it is shown again.
const SHOWN_BYTES_MAX: usize = 64;

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

/// What a query says, each parameter once.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query that may have these parameters.
    ///
    /// # Errors
    /// 400 naming the parameter: one that is not known, or is there twice.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let read = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(said) = read.map_err(|_| ApiError::invalid("the query is no list of NAME=VALUE, joined by &"))?;
        for (index, (name, _)) in said.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let (name, known) = (shown(name), known.join(", "));
                return Err(ApiError::invalid(format!(
                    "the query has {name}, which is not known here; it may have {known}"
                )));
            }
            if said[..index].iter().any(|(before, _)| before == name) {
                return Err(ApiError::invalid(format!("the query has {name} twice; it may have it once")));
            }
        }
        Ok(Self(said))
    }

    /// A parameter's text, if it is there.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A whole number, if it is there.
    ///
    /// # Errors
    /// 400 for what is none, or out of range.
    pub(crate) fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, ApiError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        // Digits alone: `+1` is a number to Rust.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (first, last, text) = (range.start(), range.end(), shown(text));
            ApiError::invalid(format!("{name} is {text}; it must be a whole number from {first} to {last}"))
        })
    }

    /// Which part of a list, with what is not said filled in.
    ///
    /// # Errors
    /// 400 for a limit that is out of range.
    pub(crate) fn page(&self, limits: &ServerLimits) -> Result<Page, ApiError> {
        let limit = self.number("limit", 1..=limits.page_max)?.unwrap_or(limits.page);
        Ok(Page { after: self.text("after").map(str::to_owned), limit })
    }
}

/// The parameters of a list.
pub(crate) const PAGE: [&str; 2] = ["after", "limit"];

/// What a client wrote, between quotes and cut short.
pub(crate) fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let more = if cut < text.len() { "…" } else { "" };
    format!("{:?}{more}", &text[..cut])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn read(query: &str) -> Result<Parameters, ApiError> {
        Parameters::read(&format!("/v1/runs?{query}").parse().unwrap(), &PAGE)
    }

    #[test]
    fn a_query_is_refused_by_name() {
        let check = |query: &str| {
            let page = read(query).and_then(|parameters| parameters.page(&ServerLimits::default()));
            page.map(|page| (page.after, page.limit)).map_err(|error| error.message)
        };
        assert_eq!(check(""), Ok((None, 100)));
        assert_eq!(check("limit=1000&after=a%20b"), Ok((Some("a b".to_owned()), 1000)));
        let number = |text: &str| Err(format!("limit is {text}; it must be a whole number from 1 to 1000"));
        for wrong in ["0", "1001", "x", "-1", "+1", "1.0", "", "99999999999999999999"] {
            assert_eq!(
                check(&format!("limit={}", wrong.replace('+', "%2B"))),
                number(&format!("{wrong:?}")),
                "{wrong}"
            );
        }
        assert_eq!(check("limit"), number("\"\""));
        assert_eq!(
            check("limit=1&order=name"),
            Err("the query has \"order\", which is not known here; it may have after, limit".to_owned())
        );
        assert_eq!(check("limit=1&limit=1"), Err("the query has limit twice; it may have it once".to_owned()));
        assert!(check(&format!("limit={}", "x".repeat(1000))).unwrap_err().len() < 200);
    }
}
