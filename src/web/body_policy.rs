//! What becomes of a request's body.

/// What becomes of a request's body, asked when the head is there and the resource is found
/// ([`Resource::body_policy`](super::Resource::body_policy)).
///
/// | policy      | the resource renders          | the body                                        |
/// |-------------|-------------------------------|-------------------------------------------------|
/// | `Refuse`    | when the head is there        | is not asked for; what comes of it is thrown away |
/// | `Collect`   | when the body is there        | is in [`Request::body`](super::Request::body)   |
/// | `Stream`    | when the head is there        | comes from [`Request::take_body`](super::Request::take_body) |
///
/// A body that is announced as longer than `max_bytes` is answered with 413 before any of it has
/// come; one that turns out to be longer is cut off, with 413 while nothing else was answered. A
/// client that waits for `100 Continue` gets it when the body is to be collected, or when a streamed
/// body is first read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyPolicy {
    /// The resource answers without the body: a redirect, an error, a page that takes none.
    Refuse,
    /// The body is received first, in memory.
    Collect {
        /// The longest that is taken.
        max_bytes: u64,
    },
    /// The resource reads the body as it comes.
    Stream {
        /// The longest that is taken; `u64::MAX` for any.
        max_bytes: u64,
    },
}

impl BodyPolicy {
    /// Collects bodies up to this length.
    pub const fn collect(max_bytes: u64) -> Self {
        Self::Collect { max_bytes }
    }

    /// Streams bodies up to this length; `u64::MAX` is any.
    pub const fn stream(max_bytes: u64) -> Self {
        Self::Stream { max_bytes }
    }
}
