//! The hosted service over HTTP.
