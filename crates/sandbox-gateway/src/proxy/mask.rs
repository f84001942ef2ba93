//! Keeps a host that echoes its request from showing the value to the guest.
//!
//! Each byte of a value in the answer becomes `*`, so that no length changes. That covers hosts
//! that echo, not hosts that conspire: who gets a value can send it in any other form. Values
//! under eight bytes are not looked for, since they would appear by chance.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::body::ResponseBody;
use crate::interception::InsertedValues;

const SHORTEST: usize = 8;

/// The values that an answer must not show.
pub(super) struct Mask(Vec<Zeroizing<Vec<u8>>>);

impl Mask {
    /// Covers what was put into a request; `None` where nothing is to be covered.
    pub(super) fn new(mut inserted: InsertedValues) -> Option<Self> {
        inserted.retain(|value| value.len() >= SHORTEST);
        // Where one begins like another, the longer is found first.
        inserted.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        inserted.dedup();
        (!inserted.is_empty()).then_some(Self(inserted))
    }

    /// Covers the values in the headers of an answer.
    pub(super) fn cover_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            self.cover(&mut bytes, 0, true);
            if bytes != value.as_bytes()
                && let Ok(covered) = HeaderValue::from_bytes(&bytes)
            {
                *value = covered;
            }
        }
    }

    /// Covers values in `bytes`, of which the first `already` are part of an earlier one. Ends
    /// early where a value may have begun and not ended, unless these are the last bytes. Tells
    /// how many bytes are done, and how many of those behind are part of a value found already.
    fn cover(&self, bytes: &mut [u8], already: usize, last: bool) -> (usize, usize) {
        let plain = Zeroizing::new(bytes.to_vec());
        let mut until = already;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let rest = &plain[index..];
            if !last
                && self
                    .0
                    .iter()
                    .any(|value| rest.len() < value.len() && value.starts_with(rest))
            {
                return (index, until.saturating_sub(index));
            }
            if let Some(value) = self.0.iter().find(|value| rest.starts_with(value)) {
                until = until.max(index + value.len());
            }
            if index < until {
                *byte = b'*';
            }
        }
        (plain.len(), 0)
    }
}

/// The answer's body with the values covered.
pub(super) fn cover_body(mask: Mask, body: Incoming) -> ResponseBody {
    Covered {
        body,
        mask,
        held: Vec::new(),
        covered: 0,
        last: None,
    }
    .map_err(Into::into)
    .boxed_unsync()
}

struct Covered<B> {
    body: B,
    mask: Mask,
    /// Bytes that could be the beginning of a value.
    held: Vec<u8>,
    /// How many of those belong to a value that was found.
    covered: usize,
    /// Trailers that wait until `held` is out.
    last: Option<Frame<Bytes>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Covered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(last) = this.last.take() {
                return Poll::Ready(Some(Ok(last)));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let passed = this.pass(&data);
                        if !passed.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(passed))));
                        }
                    }
                    Err(trailers) if this.held.is_empty() => {
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                    Err(trailers) => {
                        this.last = Some(trailers);
                        return Poll::Ready(Some(Ok(this.release())));
                    }
                },
                None if !this.held.is_empty() => return Poll::Ready(Some(Ok(this.release()))),
                end => return Poll::Ready(end),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

impl<B> Covered<B> {
    fn pass(&mut self, data: &[u8]) -> Bytes {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let (done, covered) = self.mask.cover(&mut bytes, self.covered, false);
        self.covered = covered;
        self.held = bytes.split_off(done);
        bytes.into()
    }

    fn release(&mut self) -> Frame<Bytes> {
        let mut bytes = std::mem::take(&mut self.held);
        self.mask.cover(&mut bytes, self.covered, true);
        Frame::data(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        Mask::new(
            values
                .iter()
                .map(|value| Zeroizing::new(value.as_bytes().to_vec()))
                .collect(),
        )
        .unwrap()
    }

    async fn covered(values: &[&str], text: &str, size: usize) -> String {
        let frames: Vec<_> = text
            .as_bytes()
            .chunks(size)
            .map(|chunk| {
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(chunk)))
            })
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let covered = Covered {
            body,
            mask: mask(values),
            held: Vec::new(),
            covered: 0,
            last: None,
        };
        String::from_utf8(covered.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn values_are_covered_however_the_body_is_cut() {
        let text = "a hunter2-hunter2 b hunter2-hunter hunter2-hunter2";
        let expected = "a *************** b hunter2-hunter ***************";
        for size in 1..text.len() {
            assert_eq!(covered(&["hunter2-hunter2"], text, size).await, expected);
        }
    }

    #[tokio::test]
    async fn a_value_within_another_uncovers_nothing() {
        let values = ["password", "password-and-more"];
        let text = "password-and-more password-and password";
        for size in [1, 7, 100] {
            let expected = "***************** ********-and ********";
            assert_eq!(covered(&values, text, size).await, expected, "{size}");
        }
    }

    #[test]
    fn headers_are_covered_and_short_values_left() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("Bearer hunter2-hunter2"));
        mask(&["hunter2-hunter2"]).cover_headers(&mut headers);
        assert_eq!(headers["x-echo"], "Bearer ***************");
        assert!(Mask::new(vec![Zeroizing::new(b"short".to_vec())]).is_none());
    }
}
