//! Checks the raw heads of HTTP/1 requests for request smuggling.
//!
//! hyper removes `Content-Length` from a request that also has `Transfer-Encoding` (RFC 9112,
//! section 6.3, permits it), so only the raw head shows smuggling. The check skips bodies of a
//! known length. It ends at a chunked body, and the proxy closes such a connection after its
//! response.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::forwarding::forward_writes;
use super::limits::{HEAD_LIMIT, MOST_HEADERS};

/// A stream of the guest whose request heads are checked.
pub(super) struct RequestHeads<S> {
    inner: S,
    next: Next,
    /// The bytes that were read and not passed on.
    pending: Vec<u8>,
    /// The number of pending bytes that were checked.
    passed: usize,
    ended: bool,
    smuggling: Rc<Cell<bool>>,
}

/// The content after the checked bytes.
enum Next {
    Head,
    Body(u64),
    /// Unchecked content: a chunked body, a tunnel, or a request that hyper rejects.
    Rest,
}

impl<S> RequestHeads<S> {
    /// Wraps a stream. The returned flag is true if the last request has both `Content-Length` and
    /// `Transfer-Encoding`.
    pub(super) fn new(inner: S) -> (Self, Rc<Cell<bool>>) {
        let smuggling = Rc::new(Cell::new(false));
        let heads = Self {
            inner,
            next: Next::Head,
            pending: Vec::new(),
            passed: 0,
            ended: false,
            smuggling: Rc::clone(&smuggling),
        };
        (heads, smuggling)
    }

    /// Returns the wrapped stream and the bytes that were not passed on.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.pending.into())
    }

    /// Checks pending bytes until some may pass or more are needed.
    fn check(&mut self) {
        while self.passed == 0 && !self.pending.is_empty() {
            match &mut self.next {
                Next::Rest => self.passed = self.pending.len(),
                Next::Body(0) => self.next = Next::Head,
                Next::Body(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX);
                    self.passed = length.min(self.pending.len());
                    *left -= self.passed as u64;
                }
                Next::Head => match parse(&self.pending) {
                    Parsed::Head { length, next, both } => {
                        self.smuggling.set(both);
                        self.passed = length;
                        self.next = next;
                    }
                    Parsed::Partial if self.pending.len() < HEAD_LIMIT && !self.ended => return,
                    Parsed::Partial | Parsed::Invalid => self.next = Next::Rest,
                },
            }
        }
    }
}

enum Parsed {
    Head {
        length: usize,
        next: Next,
        /// Whether it has both `Content-Length` and `Transfer-Encoding`.
        both: bool,
    },
    Partial,
    Invalid,
}

fn parse(bytes: &[u8]) -> Parsed {
    // Parsing again after each byte would take quadratic time for a client that sends single bytes.
    let end = bytes.last() == Some(&b'\n')
        || bytes
            .windows(2)
            .any(|pair| pair == b"\n\r" || pair == b"\n\n");
    if !end {
        return Parsed::Partial;
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Invalid,
    };
    let values = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let chunked = values("transfer-encoding").next().is_some();
    let content_length = values("content-length").next();
    let tunnel = request.method == Some("CONNECT") || values("upgrade").next().is_some();
    let next = match content_length {
        _ if chunked || tunnel => Next::Rest,
        None => Next::Head,
        Some(value) => match std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.trim().parse().ok())
        {
            Some(length) => Next::Body(length),
            None => Next::Rest,
        },
    };
    Parsed::Head {
        length,
        next,
        both: chunked && content_length.is_some(),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestHeads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.check();
            if this.passed > 0 {
                let length = this.passed.min(buffer.remaining());
                buffer.put_slice(&this.pending[..length]);
                this.pending.drain(..length);
                this.passed -= length;
                return Poll::Ready(Ok(()));
            }
            if matches!(this.next, Next::Rest) {
                return Pin::new(&mut this.inner).poll_read(context, buffer);
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.fill(context))?;
        }
    }
}

impl<S: AsyncRead + Unpin> RequestHeads<S> {
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [std::mem::MaybeUninit::uninit(); 8 * 1024];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut chunk))?;
        self.ended = chunk.filled().is_empty();
        self.pending.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(()))
    }
}

forward_writes!(RequestHeads);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Returns the bytes that pass when `bytes` arrive in pieces of `size`, and the flag.
    async fn passed(bytes: &[u8], size: usize) -> (Vec<u8>, bool) {
        let (mut guest, inner) = tokio::io::duplex(size);
        let (mut heads, smuggling) = RequestHeads::new(inner);
        let mut read = Vec::new();
        let writing = async {
            guest.write_all(bytes).await.unwrap();
            drop(guest);
        };
        let (_, result) = tokio::join!(writing, heads.read_to_end(&mut read));
        result.unwrap();
        (read, smuggling.get())
    }

    const BOTH: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";

    #[tokio::test]
    async fn smuggling_is_detected_after_other_requests() {
        let harmless = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nTransfer-Enc";
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for (parts, expected) in [
            (vec![&harmless[..]], false),
            (vec![&chunked[..]], false),
            (vec![BOTH], true),
            (vec![&harmless[..], &harmless[..], BOTH], true),
        ] {
            let bytes = parts.concat();
            for size in [1, 3, 64, 4096] {
                let (read, both) = passed(&bytes, size).await;
                assert_eq!(read, bytes);
                assert_eq!(both, expected, "{size} {}", bytes.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn other_bytes_pass_unchanged() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\n\n"[..],
            b"GET / HTTP",
            b"",
            b"A B C\r\n\r\n",
        ] {
            assert_eq!(passed(bytes, 2).await, (bytes.to_vec(), false));
        }
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 3 * HEAD_LIMIT]].concat();
        assert_eq!(passed(&endless, 4096).await.0.len(), endless.len());
    }
}
