//! The body of a response to the guest.

use std::error::Error;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// A body from the upstream host or from the gateway.
pub(super) type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;
