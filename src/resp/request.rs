//! A request: a command's name and its arguments.

use super::{Reply, Version};
use std::fmt;

/// A whole request: the command's name and its arguments, in the bytes they arrived in.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// The number of arguments, the command's name included. At least 1.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a request has a name, so it is never empty")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument at `index`; 0 is the command's name.
    ///
    /// # Panics
    /// From [`len`](Self::len) on. Arity is checked before a command runs.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.bytes[span.start as usize..][..span.length as usize]
    }

    /// The argument at `index`, or `None` past the last.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.arg(index))
    }

    /// Bytes of its arguments, and of what stands between them: about what it takes on the wire.
    #[inline]
    pub fn encoded_bytes(&self) -> usize {
        match (self.spans.first(), self.spans.last()) {
            // Each has its length before it, and line ends around.
            (Some(first), Some(last)) => (last.start + last.length - first.start) as usize + 2 * SIGNS,
            _ => 0,
        }
    }

    /// The arguments from `first` on.
    #[inline]
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        let spans = self.spans.get(first..).unwrap_or_default();
        spans.iter().map(move |span| &bytes[span.start as usize..][..span.length as usize])
    }
}

/// `$4\r\n` or `*3\r\n`, and `\r\n`, at the ends of a request: some bytes less for a short one, some more for a long one.
const SIGNS: usize = 5;

impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.args_from(0).map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// One argument's place in the bytes of its request. A request is at most 2^32 bytes behind its start; the decoder
/// refuses what goes beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// A request that is put together, word by word, instead of being cut out of bytes.
#[derive(Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// The most memory that is kept of a large request.
const WORDS_KEPT: usize = 64 * 1024;

impl Words {
    /// Begins a request with its command's name.
    pub fn begin(&mut self, name: &[u8]) {
        self.give_back();
        self.bytes.clear();
        self.spans.clear();
        self.push(name);
    }

    /// Gives back the memory of a large request, once it has been executed.
    #[inline]
    pub fn give_back(&mut self) {
        if WORDS_KEPT < self.memory() {
            *self = Self::default();
        }
    }

    /// Bytes of memory that the words hold on to.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// Appends a word.
    #[inline]
    pub fn push(&mut self, word: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(word);
        self.end_word(start);
    }

    /// Appends a word that is written in pieces. Where that fails, there is no such word.
    ///
    /// # Errors
    /// What `write` says.
    #[inline]
    pub fn write<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        let outcome = write(&mut self.bytes);
        match outcome {
            Ok(()) => self.end_word(start),
            Err(_) => self.bytes.truncate(start),
        }
        outcome
    }

    /// # Panics
    /// Beyond 4 GiB, which is more than any limit of a request allows.
    fn end_word(&mut self, start: usize) {
        let fits = "the limits of a request are below 4 GiB";
        let (start, length) = (u32::try_from(start).expect(fits), u32::try_from(self.bytes.len() - start).expect(fits));
        self.spans.push(Span { start, length });
    }

    /// Returns the request that has been put together.
    #[inline]
    pub fn request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, spans: &self.spans }
    }
}

/// Appends a request in the form that clients send: an array of bulk strings.
pub fn encode_request<'a>(output: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut reply = Reply { output, version: Version::Two };
    reply.array(args.len());
    args.for_each(|arg| reply.bulk(arg));
}
