//! Bounded decompression of Debian's kernels and kernel modules.

use std::io::{self, BufRead as _, Read, Write};

/// The largest accepted zstd window, in bytes. Linux compresses kernels with `zstd --ultra -22`
/// (`scripts/Makefile.lib`), whose window has 128 MiB.
const ZSTD_WINDOW_LIMIT_BYTES: u64 = 128 << 20;

/// A compression format, detected by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// RFC 1952.
    Gzip,
    /// The .xz file format.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Returns the format of `bytes`, and `None` if it is unknown.
    pub(super) fn detect(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 3] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        ];
        MAGICS
            .into_iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, compression)| compression)
    }

    /// Decompresses the first stream in `bytes`. Ignores the bytes behind it, since Linux appends
    /// the decompressed length to a compressed kernel.
    ///
    /// # Errors
    ///
    /// `bytes` is damaged, or has more than `limit_bytes` decompressed.
    pub(super) fn decompress(self, bytes: &[u8], limit_bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => read_bounded(flate2::bufread::GzDecoder::new(bytes), limit_bytes),
            Self::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(
                    bytes,
                    ZSTD_WINDOW_LIMIT_BYTES,
                )
                .map_err(io::Error::other)?;
                read_bounded(decoder, limit_bytes)
            }
            Self::Xz => {
                let mut output = Bounded {
                    bytes: Vec::new(),
                    limit_bytes,
                };
                let mut input = bytes;
                lzma_rs::xz_decompress(&mut input, &mut output).map_err(io::Error::other)?;
                Ok(output.bytes)
            }
        }
    }
}

fn read_bounded(decoder: impl Read, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    let mut bounded = io::BufReader::new(decoder.take(limit_bytes as u64));
    bounded.read_to_end(&mut output)?;
    if bounded.get_ref().limit() == 0 {
        // The output has reached the limit, so only the end of the stream may follow.
        let mut rest = io::BufReader::new(bounded.into_inner().into_inner());
        if !rest.fill_buf()?.is_empty() {
            return Err(too_long(limit_bytes));
        }
    }
    Ok(output)
}

/// A buffer for at most `limit_bytes`.
struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit_bytes {
            return Err(too_long(self.limit_bytes));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_long(limit_bytes: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the content has more than {limit_bytes} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(content: &[u8]) -> [(Compression, Vec<u8>); 3] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).unwrap();
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut &content[..], &mut xz).unwrap();
        let zstd =
            ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest);
        [
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Xz, xz),
            (Compression::Zstd, zstd),
        ]
    }

    #[test]
    fn decompress_returns_content_of_every_format() {
        let content = b"a kernel ".repeat(5000);
        for (compression, bytes) in compressed(&content) {
            assert_eq!(Compression::detect(&bytes), Some(compression));
            let output = compression.decompress(&bytes, content.len()).unwrap();
            assert!(output == content, "{compression:?}");
        }
        assert_eq!(Compression::detect(b"\x7fELF"), None);
        assert_eq!(Compression::detect(b""), None);
    }

    #[test]
    fn decompress_beyond_limit_fails() {
        let content = vec![0; 100_000];
        for (compression, bytes) in compressed(&content) {
            let error = compression
                .decompress(&bytes, content.len() - 1)
                .unwrap_err();
            assert!(
                error.to_string().contains("99999"),
                "{compression:?}: {error}"
            );
        }
    }

    #[test]
    fn decompress_truncated_input_fails() {
        for (compression, bytes) in compressed(&b"a kernel ".repeat(5000)) {
            let half = &bytes[..bytes.len() / 2];
            assert!(
                compression.decompress(half, 1 << 20).is_err(),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn decompress_ignores_bytes_behind_stream() {
        for (compression, mut bytes) in compressed(b"kernel") {
            if compression == Compression::Xz {
                continue;
            }
            bytes.extend(6_u32.to_le_bytes());
            assert_eq!(compression.decompress(&bytes, 100).unwrap(), b"kernel");
        }
    }
}
