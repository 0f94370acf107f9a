//! Request targets in their four forms (RFC 9112, section 3.2).

use std::ops::Range;

use http::Method;
use percent_encoding::percent_decode_str;

use super::class::Class;
use super::host::{are_escapes, is_host};
use super::refusal::Refusal;

/// What the parts of a target are, as ranges of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The path, or all of the target if it has none: `*` and the authority of CONNECT.
    pub(super) path: Range<usize>,
    /// Whether anything in the path is percent-encoded.
    pub(super) has_escapes: bool,
    /// Host and port of an absolute URI.
    pub(super) authority: Option<Range<usize>>,
}

/// What a path is made of where nothing in it is special: visible ASCII without the percent sign,
/// what ends a path, and what may not be in one.
pub(super) static PLAIN_PATH: Class = Class::visible_without(b"#%?\\");

/// How long the segment is that `path` begins with.
#[inline]
pub(crate) fn segment_length(path: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    // Eight at a time: a slash shows in the top bit of its byte. The lowest bit that shows is right.
    while let Some((eight, _)) = path[at..].split_first_chunk::<8>() {
        let other = u64::from_le_bytes(*eight) ^ (ONES * u64::from(b'/'));
        let slashes = other.wrapping_sub(ONES) & !other & (ONES * 0x80);
        if slashes != 0 {
            return at + slashes.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = path[at..].iter().position(|byte| *byte == b'/');
    rest.map_or(path.len(), |rest| at + rest)
}

/// Finds the parts of a target, or refuses it.
///
/// In a path, a percent sign begins an escape, and a backslash may not be, as some readers take it
/// for a slash. A query is left to its decoder, which takes a percent sign that begins no escape
/// for itself.
pub(super) fn parts(target: &str, method: &Method) -> Result<Parts, Refusal> {
    let bad = || Refusal::Target {
        target: target.into(),
    };
    // A fragment is never sent (RFC 9112, 3.2.1), and what is not ASCII is encoded.
    let may_be = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !target.bytes().all(may_be) {
        return Err(bad());
    }
    let whole = Parts {
        path: 0..target.len(),
        ..Parts::default()
    };
    if *method == Method::CONNECT {
        // The authority form, with a port (RFC 9110, 9.3.6).
        let has_port = target
            .bytes()
            .last()
            .is_some_and(|byte| byte.is_ascii_digit())
            && target
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.contains(']'));
        return match has_port && is_host(target.as_bytes()) {
            true => Ok(whole),
            false => Err(bad()),
        };
    }
    if target == "*" {
        return Ok(whole);
    }
    let end = target.find('?').unwrap_or(target.len());
    let (path, authority) = if target.starts_with('/') {
        (0..end, None)
    } else {
        let start = authority_start(target)
            .filter(|start| *start <= end)
            .ok_or_else(bad)?;
        let slash = target[start..end].find('/').map_or(end, |at| start + at);
        if !is_host(&target.as_bytes()[start..slash]) {
            return Err(Refusal::Host {
                value: target.into(),
            });
        }
        // An absolute URI without a path means its root; the slash of the scheme will do.
        let path = if slash < end {
            slash..end
        } else {
            start - 1..start
        };
        (path, Some(start..slash))
    };
    let text = &target[path.clone()];
    if !are_escapes(text.as_bytes()) || text.contains('\\') {
        return Err(bad());
    }
    let has_escapes = text.contains('%');
    if has_escapes && percent_decode_str(text).decode_utf8().is_err() {
        return Err(Refusal::PathEncoding { path: text.into() });
    }
    Ok(Parts {
        path,
        has_escapes,
        authority,
    })
}

/// Where the authority begins, if the target is an absolute URI.
fn authority_start(target: &str) -> Option<usize> {
    let is_start = |scheme: &&str| {
        let start = target.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    ["http://", "https://"]
        .iter()
        .find(|scheme| is_start(scheme))
        .map(|scheme| scheme.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Eight bytes at a time find what one at a time does.
        #[test]
        fn a_segment_ends_at_the_first_slash(
            path in proptest::collection::vec(
                proptest::sample::select(b"/a0.\xaf\x2e\x30\x01".to_vec()), 0..40,
            ),
        ) {
            let slow = path.iter().take_while(|byte| **byte != b'/').count();
            assert_eq!(segment_length(&path), slow);
        }
    }

    #[test]
    fn targets_have_parts() {
        for (target, path, authority) in [
            ("/", "/", None),
            ("/a/b?c=d", "/a/b", None),
            ("/a??", "/a", None),
            ("//evil/x", "//evil/x", None),
            ("http://h/a?b", "/a", Some("h")),
            ("HTTP://h", "/", Some("h")),
            ("https://h:1?b/c", "/", Some("h:1")),
            ("*", "*", None),
        ] {
            let parts = parts(target, &Method::GET).unwrap();
            assert_eq!(&target[parts.path], path, "{target:?}");
            let found = parts.authority.map(|range| &target[range]);
            assert_eq!(found, authority, "{target:?}");
        }
    }

    /// RFC 9112, 3.2.3.
    #[test]
    fn connect_takes_an_authority() {
        for (target, is_good) in [
            ("h:443", true),
            ("[::1]:443", true),
            ("h", false),
            ("h:", false),
            ("[::1]", false),
            ("/", false),
            ("*", false),
            ("u@h:1", false),
        ] {
            assert_eq!(
                parts(target, &Method::CONNECT).is_ok(),
                is_good,
                "{target:?}"
            );
        }
    }
}
