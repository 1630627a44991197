//! Header blocks: pairs of names and values, compressed by zlib with SPDY's own dictionary. Each
//! direction is one zlib stream over the whole connection. PURE.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The largest header block after decompression, in bytes: names and short values only.
const BLOCK_MAX_BYTES: usize = 64 * 1024;

/// First part of the dictionary: words, each behind its length in four bytes.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection content-base \
    content-encoding content-language content-length content-location content-md5 content-range \
    content-type date etag expect expires from host if-match if-modified-since if-none-match \
    if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url \
    public set-cookie keep-alive origin";
/// Second part: text.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
    417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
    Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS.split_ascii_whitespace() {
        let word = word.replace('_', " ");
        append(&mut out, word.as_bytes());
    }
    out.extend_from_slice(TEXT.as_bytes());
    out
});

/// Names, in lower case, and values.
pub(in super::super) type Headers = Vec<(String, String)>;

/// A header block that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum BadBlock {
    /// Not a zlib stream with SPDY's dictionary.
    #[error("a header block cannot be decompressed")]
    Compression,
    /// More than 64 KiB.
    #[error("a header block is too large")]
    TooLarge,
    /// Lengths that do not fit.
    #[error("a header block is cut short")]
    Short,
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("headers are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// One direction's compression.
pub(in super::super) struct Deflater(Compress);

impl Deflater {
    /// A new connection's.
    pub(in super::super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&DICTIONARY).expect("a stream that has not begun takes a dictionary");
        Self(zlib)
    }

    /// The next block.
    pub(in super::super) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let count = u32::try_from(headers.len()).expect("headers are few");
        let mut plain = count.to_be_bytes().to_vec();
        for (name, value) in headers {
            append(&mut plain, name.as_bytes());
            append(&mut plain, value.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let begun = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - begun).expect("within the block");
            let status = self.0.compress_vec(&plain[done..], &mut out, FlushCompress::Sync);
            status.expect("compression of bytes in memory does not fail");
            // Room that is left means that everything has been flushed.
            if out.len() < out.capacity() {
                return out;
            }
            out.reserve(256);
        }
    }
}

/// The other direction's decompression.
pub(in super::super) struct Inflater(Decompress);

impl Inflater {
    /// A new connection's.
    pub(in super::super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads the next block.
    pub(in super::super) fn headers(&mut self, block: &[u8]) -> Result<Headers, BadBlock> {
        let plain = self.inflate(block)?;
        let mut rest = plain.as_slice();
        let count = number(&mut rest)?;
        let mut out = Vec::new();
        for _ in 0..count {
            let name = text(&mut rest)?.to_ascii_lowercase();
            out.push((name, text(&mut rest)?));
        }
        Ok(out)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, BadBlock> {
        let mut out = Vec::with_capacity(1024);
        let begun = self.0.total_in();
        loop {
            let done = self.0.total_in() - begun;
            let rest = usize::try_from(done).ok().and_then(|done| block.get(done..));
            let rest = rest.ok_or(BadBlock::Compression)?;
            match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(BadBlock::Compression),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&DICTIONARY);
                    set.map_err(|_| BadBlock::Compression)?;
                    continue;
                }
                Err(_) => return Err(BadBlock::Compression),
            }
            if out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() >= BLOCK_MAX_BYTES {
                return Err(BadBlock::TooLarge);
            }
            out.reserve(out.len());
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, BadBlock> {
    let (first, behind) = rest.split_first_chunk::<4>().ok_or(BadBlock::Short)?;
    *rest = behind;
    usize::try_from(u32::from_be_bytes(*first)).map_err(|_| BadBlock::Short)
}

fn text(rest: &mut &[u8]) -> Result<String, BadBlock> {
    let length = number(rest)?;
    let (text, behind) = rest.split_at_checked(length).ok_or(BadBlock::Short)?;
    *rest = behind;
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum that every zlib stream of SPDY/3 begins with (bytes 2 to 5).
    const DICTIONARY_ADLER: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];

    #[test]
    fn the_dictionary_is_that_of_spdy_3() {
        assert_eq!(DICTIONARY.len(), 1423);
        let block = Deflater::new().block(&[]);
        assert_eq!(block[1] & 0x20, 0x20, "announces a dictionary");
        assert_eq!(block[2..6], DICTIONARY_ADLER);
    }

    #[test]
    fn blocks_follow_each_other_in_one_stream() {
        let (mut out, mut back) = (Deflater::new(), Inflater::new());
        let long = "x".repeat(5_000);
        for round in 0..3 {
            let port = round.to_string();
            let headers = [("streamtype", "data"), ("port", &port), ("long", &long)];
            let block = out.block(&headers);
            let wanted: Headers =
                headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(back.headers(&block), Ok(wanted), "round {round}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Inflater::new().headers(b"nonsense"), Err(BadBlock::Compression));
        assert_eq!(Inflater::new().headers(b""), Err(BadBlock::Short));
        let huge = "x".repeat(200_000);
        let block = Deflater::new().block(&[("a", &huge)]);
        assert_eq!(Inflater::new().headers(&block), Err(BadBlock::TooLarge));
    }
}
