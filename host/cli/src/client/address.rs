//! Where a server is, and whether a key may be shown to it.

use std::{fmt, net::IpAddr, str::FromStr};

use ureq::http::Uri;

/// Where `sglhost serve` listens if nobody says otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "http://127.0.0.1:30000";

/// A server's address, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    url: String,
    loopback: bool,
    encrypted: bool,
}

/// A text is no server's address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no server's address: {reason}")]
pub(crate) struct NotAnAddress {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = |reason| NotAnAddress { text: text.to_owned(), reason };
        let url = text.trim_end_matches('/');
        let no_scheme = "it must begin with http:// or https://, as in http://127.0.0.1:30000";
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(wrong(no_scheme));
        }
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        if let Some((_, place)) = text.split_once('@') {
            // What stands before it may be a secret.
            let reason = "a key does not belong into it; SGLHOST_KEY or --key-file holds one";
            return Err(NotAnAddress { text: format!("…@{place}"), reason });
        }
        if uri.query().is_some() {
            return Err(wrong("it must end before the question mark"));
        }
        let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = host == "localhost" || number.is_ok_and(|number| number.is_loopback());
        Ok(Self { url: url.to_owned(), loopback, encrypted: uri.scheme_str() == Some("https") })
    }
}

impl Address {
    /// Whether what is sent there is read by nobody on the way.
    pub(crate) fn is_private(&self) -> bool {
        self.loopback || self.encrypted
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(&str, bool), &str>) {
        match (text.parse::<Address>(), expect) {
            (Ok(address), Ok((url, private))) => {
                assert_eq!((address.to_string().as_str(), address.is_private()), (url, private));
            }
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (parsed, expect) => panic!("{text}: {parsed:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn addresses() {
        check("http://127.0.0.1:30000/", Ok(("http://127.0.0.1:30000", true)));
        check("http://[::1]:1", Ok(("http://[::1]:1", true)));
        check("http://localhost", Ok(("http://localhost", true)));
        check("http://example.com", Ok(("http://example.com", false)));
        check("http://localhost.example.com", Ok(("http://localhost.example.com", false)));
        check("https://example.com/sglhost", Ok(("https://example.com/sglhost", true)));
        check("127.0.0.1:30000", Err("must begin with http://"));
        check("http://", Err("must begin with http://"));
        check("http://:80", Err("no host"));
        check("http://a b", Err("no URL"));
        check("http://sgl_key@example.com", Err("a key does not belong"));
        check("http://example.com/?key=1", Err("question mark"));
        let shown = "http://sgl_key@example.com".parse::<Address>().map_err(|error| error.to_string());
        assert!(shown.is_err_and(|error| !error.contains("sgl_key")));
    }
}
