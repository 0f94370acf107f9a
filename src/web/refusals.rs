//! The reasons for which a site refuses requests, with the status and the label of each.

use std::fmt;

use http::StatusCode;

use crate::http1::Reason;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $label:literal $status:expr,)*) => {
        /// Why a site refused a request, or gave up a connection. [`ALL`](Self::ALL) has every reason;
        /// later versions may add some.
        ///
        /// [`as_str`](Self::as_str) is the label for a counter. A refused connection is closed
        /// behind the answer; where the table has no status, it is closed without one.
        ///
        /// | reason                                                                 | clause            | status | test                                                              |
        /// |------------------------------------------------------------------------|-------------------|--------|-------------------------------------------------------------------|
        /// | [`empty_lines`](Self::EmptyLines)                                      | RFC 9112, 2.2     | 400    | `empty_lines_before_a_request_are_skipped_up_to_a_few`            |
        /// | [`bare_line_feed`](Self::BareLineFeed)                                 | RFC 9112, 2.2     | 400    | `fields_have_one_form`                                            |
        /// | [`malformed_request_line`](Self::MalformedRequestLine)                 | RFC 9112, 3       | 400    | `request_lines_have_one_form`                                     |
        /// | [`malformed_status_line`](Self::MalformedStatusLine)                   | RFC 9112, 4       | none   | `malformed_status_lines_are_refused`                              |
        /// | [`malformed_version`](Self::MalformedVersion)                          | RFC 9112, 2.3     | 400    | `versions_are_told_apart`                                         |
        /// | [`unsupported_version`](Self::UnsupportedVersion)                      | RFC 9110, 15.6.6  | 505    | `versions_are_told_apart`                                         |
        /// | [`bad_target`](Self::BadTarget)                                        | RFC 9112, 3.2     | 400    | `request_lines_have_one_form`                                     |
        /// | [`path_not_utf8`](Self::PathNotUtf8)                                   | RFC 3986, 2.5     | 400    | `a_path_that_is_not_utf_8_is_refused`                             |
        /// | [`malformed_field`](Self::MalformedField)                              | RFC 9112, 5       | 400    | `fields_have_one_form`                                            |
        /// | [`missing_host`](Self::MissingHost)                                    | RFC 9112, 3.2     | 400    | `hosts_are_checked`                                               |
        /// | [`repeated_host`](Self::RepeatedHost)                                  | RFC 9112, 3.2     | 400    | `hosts_are_checked`                                               |
        /// | [`bad_host`](Self::BadHost)                                            | RFC 9112, 3.2     | 400    | `hosts_are_checked`                                               |
        /// | [`bad_content_length`](Self::BadContentLength)                         | RFC 9112, 6.3     | 400    | `lengths_are_decimal_numbers`                                     |
        /// | [`ambiguous_length`](Self::AmbiguousLength)                            | RFC 9112, 6.3     | 400    | `lengths_are_decimal_numbers`                                     |
        /// | [`unknown_transfer_coding`](Self::UnknownTransferCoding)               | RFC 9112, 6.1     | 501    | `transfer_codings_are_chunked_or_refused`                         |
        /// | [`malformed_transfer_coding`](Self::MalformedTransferCoding)           | RFC 9112, 6.3     | 400    | `transfer_codings_are_chunked_or_refused`                         |
        /// | [`old_transfer_coding`](Self::OldTransferCoding)                       | RFC 9112, 6.1     | 400    | `transfer_codings_are_chunked_or_refused`                         |
        /// | [`unknown_expectation`](Self::UnknownExpectation)                      | RFC 9110, 10.1.1  | 417    | `expectations_are_met_or_refused`                                 |
        /// | [`request_line_too_long`](Self::RequestLineTooLong)                    | RFC 9112, 3       | 414    | `a_head_has_limits`                                               |
        /// | [`head_too_large`](Self::HeadTooLarge)                                 | RFC 6585, 5       | 431    | `a_head_has_limits`                                               |
        /// | [`too_many_fields`](Self::TooManyFields)                               | RFC 6585, 5       | 431    | `a_head_has_limits`                                               |
        /// | [`bad_chunk_size`](Self::BadChunkSize)                                 | RFC 9112, 7.1     | 400    | `chunks_have_one_form`                                            |
        /// | [`bad_chunk_line`](Self::BadChunkLine)                                 | RFC 9112, 7.1.1   | 400    | `chunks_have_one_form`                                            |
        /// | [`chunk_line_too_long`](Self::ChunkLineTooLong)                        | RFC 9112, 7.1.1   | 400    | `malformed_chunks_are_refused`                                    |
        /// | [`bad_chunk_end`](Self::BadChunkEnd)                                   | RFC 9112, 7.1     | 400    | `chunks_have_one_form`                                            |
        /// | [`chunk_overhead`](Self::ChunkOverhead)                                | RFC 9112, 7.1.1   | 400    | `chunk_framing_is_bounded_by_the_content`                         |
        /// | [`bad_trailer`](Self::BadTrailer)                                      | RFC 9112, 7.1.2   | 400    | `chunks_have_one_form`                                            |
        /// | [`trailers_too_large`](Self::TrailersTooLarge)                         | RFC 6585, 5       | 431    | `malformed_chunks_are_refused`                                    |
        /// | [`too_many_trailers`](Self::TooManyTrailers)                           | RFC 6585, 5       | 431    | `malformed_chunks_are_refused`                                    |
        /// | [`body_too_large`](Self::BodyTooLarge)                                 | RFC 9110, 15.5.14 | 413    | `a_body_that_is_too_large_is_answered_before_the_connection_ends` |
        /// | [`header_timeout`](Self::HeaderTimeout)                                | RFC 9110, 15.5.9  | 408    | `what_trickles_in_is_refused_at_its_deadline`                     |
        /// | [`body_timeout`](Self::BodyTimeout)                                    | RFC 9110, 15.5.9  | 408    | `what_trickles_in_is_refused_at_its_deadline`                     |
        /// | [`body_too_slow`](Self::BodyTooSlow)                                   | RFC 9110, 15.5.9  | 408    | `what_trickles_in_is_refused_at_its_deadline`                     |
        /// | [`write_timeout`](Self::WriteTimeout)                                  | ours              | none   | `a_client_that_does_not_read_is_cut_off`                          |
        /// | [`write_too_slow`](Self::WriteTooSlow)                                 | ours              | none   | `a_client_that_does_not_read_is_cut_off`                          |
        /// | [`unread_output`](Self::UnreadOutput)                                  | ours              | none   | `a_program_that_writes_without_heed_loses_the_connection`         |
        /// | [`too_many_connections`](Self::TooManyConnections)                     | ours              | none   | `connections_beyond_the_limit_are_closed_unanswered`              |
        /// | [`too_many_connections_per_client`](Self::TooManyConnectionsPerClient) | ours              | none   | `connections_beyond_the_limit_are_closed_unanswered`              |
        /// | [`method_unknown`](Self::MethodUnknown)                                | RFC 9110, 9.1     | 501    | `an_unknown_method_is_not_implemented`                            |
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RefusalReason {
            $($(#[$doc])* $variant,)*
        }

        impl RefusalReason {
            /// All reasons, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label, such as `bad_host`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }

            /// The status of the answer; `None` if the connection is closed without one.
            pub fn status(self) -> Option<StatusCode> {
                match self {
                    $(Self::$variant => $status,)*
                }
            }
        }
    };
}

reasons! {
    /// More than 4 empty lines came before a request line.
    EmptyLines "empty_lines" Some(StatusCode::BAD_REQUEST),
    /// A line of a head ended in LF without CR.
    BareLineFeed "bare_line_feed" Some(StatusCode::BAD_REQUEST),
    /// The request line was not a method, a target and a version with one blank between them.
    MalformedRequestLine "malformed_request_line" Some(StatusCode::BAD_REQUEST),
    /// The status line of a response was malformed. Clients alone meet this.
    MalformedStatusLine "malformed_status_line" None,
    /// The request line did not end in `HTTP/`, a digit, a dot and a digit.
    MalformedVersion "malformed_version" Some(StatusCode::BAD_REQUEST),
    /// The version was neither 1.0 nor 1.1 nor a later 1.x.
    UnsupportedVersion "unsupported_version" Some(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
    /// The request target was in none of the four forms, or had bytes that may not be in it.
    BadTarget "bad_target" Some(StatusCode::BAD_REQUEST),
    /// The path was not UTF-8 once percent-decoded.
    PathNotUtf8 "path_not_utf8" Some(StatusCode::BAD_REQUEST),
    /// A header field had no colon, a bad name, or control bytes in its value.
    MalformedField "malformed_field" Some(StatusCode::BAD_REQUEST),
    /// An HTTP/1.1 request had no `Host`.
    MissingHost "missing_host" Some(StatusCode::BAD_REQUEST),
    /// A request had several `Host` fields.
    RepeatedHost "repeated_host" Some(StatusCode::BAD_REQUEST),
    /// `Host`, or the authority of an absolute target, was not a host with an optional port, or
    /// was empty where nothing else names the host.
    BadHost "bad_host" Some(StatusCode::BAD_REQUEST),
    /// `Content-Length` was not a decimal number below 2^64.
    BadContentLength "bad_content_length" Some(StatusCode::BAD_REQUEST),
    /// `Content-Length` came twice, or beside `Transfer-Encoding`.
    AmbiguousLength "ambiguous_length" Some(StatusCode::BAD_REQUEST),
    /// `Transfer-Encoding` named a coding other than `chunked`.
    UnknownTransferCoding "unknown_transfer_coding" Some(StatusCode::NOT_IMPLEMENTED),
    /// `Transfer-Encoding` was no list of codings with `chunked` once, at its end.
    MalformedTransferCoding "malformed_transfer_coding" Some(StatusCode::BAD_REQUEST),
    /// An HTTP/1.0 request had a `Transfer-Encoding`.
    OldTransferCoding "old_transfer_coding" Some(StatusCode::BAD_REQUEST),
    /// `Expect` was not `100-continue`.
    UnknownExpectation "unknown_expectation" Some(StatusCode::EXPECTATION_FAILED),
    /// The request line was longer than
    /// [`Site::max_request_line_bytes`](super::Site::max_request_line_bytes).
    RequestLineTooLong "request_line_too_long" Some(StatusCode::URI_TOO_LONG),
    /// The head was larger than [`Site::max_head_bytes`](super::Site::max_head_bytes).
    HeadTooLarge "head_too_large" Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    /// The head had more fields than [`Site::max_header_fields`](super::Site::max_header_fields).
    TooManyFields "too_many_fields" Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    /// A chunk size was not a hexadecimal number of at most 16 digits.
    BadChunkSize "bad_chunk_size" Some(StatusCode::BAD_REQUEST),
    /// A chunk extension was malformed, or a chunk line did not end in CR LF.
    BadChunkLine "bad_chunk_line" Some(StatusCode::BAD_REQUEST),
    /// A chunk size and its extensions were longer than 1024 bytes.
    ChunkLineTooLong "chunk_line_too_long" Some(StatusCode::BAD_REQUEST),
    /// The data of a chunk was not followed by CR LF.
    BadChunkEnd "bad_chunk_end" Some(StatusCode::BAD_REQUEST),
    /// Chunk sizes and extensions were larger than 16 KiB and 8 bytes for each byte of content.
    ChunkOverhead "chunk_overhead" Some(StatusCode::BAD_REQUEST),
    /// A trailer was not a name, a colon and a value.
    BadTrailer "bad_trailer" Some(StatusCode::BAD_REQUEST),
    /// The trailers were larger than 16 KiB.
    TrailersTooLarge "trailers_too_large" Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    /// There were more than 100 trailers.
    TooManyTrailers "too_many_trailers" Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    /// The body was larger than [`Site::max_body_bytes`](super::Site::max_body_bytes).
    BodyTooLarge "body_too_large" Some(StatusCode::PAYLOAD_TOO_LARGE),
    /// The head took longer than [`Site::header_timeout`](super::Site::header_timeout).
    HeaderTimeout "header_timeout" Some(StatusCode::REQUEST_TIMEOUT),
    /// The body took longer than [`Site::body_timeout`](super::Site::body_timeout).
    BodyTimeout "body_timeout" Some(StatusCode::REQUEST_TIMEOUT),
    /// The body came slower than the minimal rate.
    BodyTooSlow "body_too_slow" Some(StatusCode::REQUEST_TIMEOUT),
    /// The client read nothing of its response for too long.
    WriteTimeout "write_timeout" None,
    /// The client read its response slower than the minimal rate.
    WriteTooSlow "write_too_slow" None,
    /// The program wrote more than the limit beyond what the client read.
    UnreadOutput "unread_output" None,
    /// There were as many connections as the site allows.
    TooManyConnections "too_many_connections" None,
    /// The client had as many connections as the site allows one address.
    TooManyConnectionsPerClient "too_many_connections_per_client" None,
    /// The method is one that the server does not know.
    MethodUnknown "method_unknown" Some(StatusCode::NOT_IMPLEMENTED),
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Reason> for RefusalReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::EmptyLines => Self::EmptyLines,
            Reason::BareLineFeed => Self::BareLineFeed,
            Reason::MalformedRequestLine => Self::MalformedRequestLine,
            Reason::MalformedStatusLine => Self::MalformedStatusLine,
            Reason::MalformedVersion => Self::MalformedVersion,
            Reason::UnsupportedVersion => Self::UnsupportedVersion,
            Reason::BadTarget => Self::BadTarget,
            Reason::PathNotUtf8 => Self::PathNotUtf8,
            Reason::MalformedField => Self::MalformedField,
            Reason::MissingHost => Self::MissingHost,
            Reason::RepeatedHost => Self::RepeatedHost,
            Reason::BadHost => Self::BadHost,
            Reason::BadContentLength => Self::BadContentLength,
            Reason::AmbiguousLength => Self::AmbiguousLength,
            Reason::UnknownTransferCoding => Self::UnknownTransferCoding,
            Reason::MalformedTransferCoding => Self::MalformedTransferCoding,
            Reason::OldTransferCoding => Self::OldTransferCoding,
            Reason::UnknownExpectation => Self::UnknownExpectation,
            Reason::RequestLineTooLong => Self::RequestLineTooLong,
            Reason::HeadTooLarge => Self::HeadTooLarge,
            Reason::TooManyFields => Self::TooManyFields,
            Reason::BadChunkSize => Self::BadChunkSize,
            Reason::BadChunkLine => Self::BadChunkLine,
            Reason::ChunkLineTooLong => Self::ChunkLineTooLong,
            Reason::BadChunkEnd => Self::BadChunkEnd,
            Reason::ChunkOverhead => Self::ChunkOverhead,
            Reason::BadTrailer => Self::BadTrailer,
            Reason::TrailersTooLarge => Self::TrailersTooLarge,
            Reason::TooManyTrailers => Self::TooManyTrailers,
            Reason::BodyTooLarge => Self::BodyTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The rows of the table in the documentation: label, status, test.
    fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
        let lines = include_str!("refusals.rs").lines();
        lines
            .filter_map(|line| line.trim().strip_prefix("/// | [`"))
            .map(|row| {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                let label = cells[0].split('`').next().unwrap();
                (label, cells[2], cells[3].trim_matches('`'))
            })
            .collect()
    }

    #[test]
    fn the_table_has_each_reason_with_its_status() {
        let status = |reason: &RefusalReason| {
            let status = reason.status();
            status.map_or("none".into(), |status| status.as_u16().to_string())
        };
        let want: Vec<_> = RefusalReason::ALL
            .iter()
            .map(|reason| (reason.to_string(), status(reason)))
            .collect();
        let rows: Vec<_> = rows()
            .into_iter()
            .map(|(label, status, _)| (label.to_owned(), status.to_owned()))
            .collect();
        assert_eq!(rows, want);
    }

    #[test]
    fn labels_are_the_names_in_snake_case() {
        let mut labels = HashSet::new();
        for reason in RefusalReason::ALL {
            let mut snake = String::new();
            for letter in format!("{reason:?}").chars() {
                if letter.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(reason.as_str(), snake);
            assert!(labels.insert(reason.as_str()), "{reason} twice");
        }
    }

    #[test]
    fn the_tests_in_the_table_exist() {
        fn read(folder: &Path, text: &mut String) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, text);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    text.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut text = String::new();
        for folder in ["src/http1", "src/web", "tests"] {
            read(&root.join(folder), &mut text);
        }
        for (label, _, test) in rows() {
            let is_there = text.contains(&format!("fn {test}()"));
            assert!(is_there, "{label}: there is no test {test}");
        }
    }
}
