//! Looks at the heads of HTTP/1 requests as they came, before hyper makes them unambiguous.
//!
//! hyper drops `Content-Length` from a request that has `Transfer-Encoding` too (RFC 9112,
//! section 6.3, permits it), so that afterwards nothing tells that somebody tried to smuggle. Here
//! that is noticed. Bodies of a known length are stepped over; after a chunked one nothing is
//! looked at any more, and the proxy end such a connection with its answer.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::{HEAD_LIMIT, MOST_HEADERS};

/// A guest's stream whose request heads are looked at.
pub(super) struct RequestHeads<S> {
    inner: S,
    next: Next,
    /// Read and not yet passed on.
    pending: Vec<u8>,
    /// How much of `pending` was looked at and may pass.
    passed: usize,
    ended: bool,
    smuggling: Rc<Cell<bool>>,
}

/// What comes after the bytes that may pass.
enum Next {
    Head,
    Body(u64),
    /// Anything: a chunked body, a tunnel, what hyper will refuse.
    Rest,
}

impl<S> RequestHeads<S> {
    /// The wrapped stream, and a flag that is set when the last request with a
    /// `Transfer-Encoding` had a `Content-Length` as well.
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

    /// The stream itself, and what was read of it and not passed on.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.pending.into())
    }

    /// Decides about bytes in `pending` until some may pass, or more are needed.
    fn look(&mut self) {
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
        /// Both `Content-Length` and `Transfer-Encoding`.
        both: bool,
    },
    Partial,
    Invalid,
}

fn parse(bytes: &[u8]) -> Parsed {
    // Parsing each byte anew would be quadratic for a client that sends them singly.
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
            this.look();
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

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestHeads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What passes of `bytes` when they arrive in pieces of `size`, and what was noticed.
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
    async fn two_lengths_are_noticed_behind_other_requests() {
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
    async fn what_is_no_request_passes_as_it_is() {
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
