//! Why a server did not do what it was asked.

use ureq::http::StatusCode;

use crate::environment::{KEY, SERVER};

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody is there.
    #[error(
        "no server answers at {address}: {reason}; `sglhost serve` starts one on this machine, --server or {SERVER} \
         names another"
    )]
    Unreachable { address: String, reason: String },
    /// It said no, and why.
    #[error("{message}{}", way_out(*status, message, *retry_after))]
    Refused {
        status: StatusCode,
        /// In the server's words.
        message: String,
        /// Seconds.
        retry_after: Option<u64>,
    },
    /// Something else is there.
    #[error("{address} does not answer as a server of sglhost: {reason}")]
    Strange { address: String, reason: String },
    /// It was lost in the middle.
    #[error("the connection to {address} broke: {reason}{}", if *cancelled {
        "; the run was cancelled with it (one that is started with --detach goes on by itself)"
    } else {
        ""
    })]
    Broken { address: String, reason: String, cancelled: bool },
}

/// What the user of a command line can do about a refusal that the server, which knows no command line, does not say.
fn way_out(status: StatusCode, message: &str, retry_after: Option<u64>) -> String {
    match (status, retry_after.filter(|_| !message.contains("again in"))) {
        (StatusCode::UNAUTHORIZED, _) => format!("; {KEY} or --key-file holds the key to show it"),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) => {
            format!(" (again in {seconds} s)")
        }
        _ => String::new(),
    }
}

impl ClientError {
    /// Whether the same request may be answered later: nobody was there, or a connection broke.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Strange { .. } => false,
        }
    }

    /// Whether there is no such thing, for this tenant.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether what was asked for was there once and is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::GONE, .. })
    }
}

/// What a failed exchange says to people, without the library's own frame around it.
pub(super) fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => io_reason(error),
        ureq::Error::Timeout(_) => "it takes too long".to_owned(),
        ureq::Error::HostNotFound => "there is no host of that name".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn io_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::UnexpectedEof => "it ended too early".to_owned(),
        ErrorKind::TimedOut => "nothing came for too long".to_owned(),
        _ => match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(inner) => reason(inner),
            None => error.to_string(),
        },
    }
}
