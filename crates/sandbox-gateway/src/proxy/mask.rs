//! Masks the values of secrets in responses, because hosts can echo their requests.
//!
//! Each byte of a value becomes `*`, so that lengths stay. A hostile host can still send the value
//! in another form. Values under eight bytes are not masked, because they can occur by chance.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::body::ResponseBody;
use crate::interception::InsertedValues;

/// The shortest value that is masked, in bytes.
const SHORTEST: usize = 8;

/// The values that are masked in a response.
pub(super) struct Mask(Vec<Zeroizing<Vec<u8>>>);

impl Mask {
    /// Returns a mask for the values in a request, or `None` if there is none to mask.
    pub(super) fn new(mut inserted: InsertedValues) -> Option<Self> {
        inserted.retain(|value| value.len() >= SHORTEST);
        // If one value is a prefix of another, the longer one is found first.
        inserted.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        inserted.dedup();
        (!inserted.is_empty()).then_some(Self(inserted))
    }

    /// Masks the values in the headers of a response.
    pub(super) fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            self.mask_bytes(&mut bytes, 0, true);
            if bytes != value.as_bytes()
                && let Ok(masked) = HeaderValue::from_bytes(&bytes)
            {
                *value = masked;
            }
        }
    }

    /// Masks values in `bytes`. The first `already` bytes belong to an earlier match.
    ///
    /// Stops before a possible incomplete value, unless these are the last bytes. Returns the
    /// number of finished bytes, and how many bytes after them belong to a match.
    fn mask_bytes(&self, bytes: &mut [u8], already: usize, last: bool) -> (usize, usize) {
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

/// Returns the response body with masked values.
pub(super) fn mask_body(mask: Mask, body: Incoming) -> ResponseBody {
    MaskedBody {
        body,
        mask,
        held: Vec::new(),
        matched: 0,
        last: None,
    }
    .map_err(Into::into)
    .boxed_unsync()
}

struct MaskedBody<B> {
    body: B,
    mask: Mask,
    /// Bytes that can be the start of a value.
    held: Vec<u8>,
    /// The number of held bytes that belong to a match.
    matched: usize,
    /// Trailers that wait until `held` is sent.
    last: Option<Frame<Bytes>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for MaskedBody<B> {
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

impl<B> MaskedBody<B> {
    fn pass(&mut self, data: &[u8]) -> Bytes {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let (done, matched) = self.mask.mask_bytes(&mut bytes, self.matched, false);
        self.matched = matched;
        self.held = bytes.split_off(done);
        bytes.into()
    }

    fn release(&mut self) -> Frame<Bytes> {
        let mut bytes = std::mem::take(&mut self.held);
        self.mask.mask_bytes(&mut bytes, self.matched, true);
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

    async fn masked(values: &[&str], text: &str, size: usize) -> String {
        let frames: Vec<_> = text
            .as_bytes()
            .chunks(size)
            .map(|chunk| {
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(chunk)))
            })
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let body = MaskedBody {
            body,
            mask: mask(values),
            held: Vec::new(),
            matched: 0,
            last: None,
        };
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn values_are_masked_across_frames() {
        let text = "a hunter2-hunter2 b hunter2-hunter hunter2-hunter2";
        let expected = "a *************** b hunter2-hunter ***************";
        for size in 1..text.len() {
            assert_eq!(masked(&["hunter2-hunter2"], text, size).await, expected);
        }
    }

    #[tokio::test]
    async fn value_within_another_stays_masked() {
        let values = ["password", "password-and-more"];
        let text = "password-and-more password-and password";
        for size in [1, 7, 100] {
            let expected = "***************** ********-and ********";
            assert_eq!(masked(&values, text, size).await, expected, "{size}");
        }
    }

    #[test]
    fn headers_are_masked_and_short_values_are_not() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("Bearer hunter2-hunter2"));
        mask(&["hunter2-hunter2"]).mask_headers(&mut headers);
        assert_eq!(headers["x-echo"], "Bearer ***************");
        assert!(Mask::new(vec![Zeroizing::new(b"short".to_vec())]).is_none());
    }
}
