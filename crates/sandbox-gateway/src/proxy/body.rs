//! The body of an answer to the guest, wherever it comes from.

use std::error::Error;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// A body whose parts come from upstream or from the gateway itself.
pub(super) type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;
