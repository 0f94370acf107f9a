//! Hosts with optional ports: the `Host` field, and the authority of a target.

use std::net::Ipv6Addr;

use super::class::Class;

/// `unreserved` and `sub-delims` (RFC 3986, section 2), without the comma: a list of two hosts is
/// taken for the first by some readers and for the second by others.
static NAME: Class = Class::alphanumeric_and(b"-._~!$&'()*+;=");

/// Whether `value` is `uri-host [ ":" port ]` with a host that is not empty (RFC 9110, 4.2.1 and
/// 7.2). Ports are at most 65535; of the IP literals, only those of IPv6 exist.
#[inline]
pub(super) fn is_host(value: &[u8]) -> bool {
    let end = NAME.count(value);
    let Some(byte) = value.get(end) else {
        return !value.is_empty();
    };
    match byte {
        b':' => end > 0 && is_port(&value[end + 1..]),
        b'[' => end == 0 && is_literal(value),
        b'%' => is_escaped_name(value),
        _ => false,
    }
}

#[inline]
fn is_port(digits: &[u8]) -> bool {
    let mut port = 0u32;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return false;
        }
        port = port * 10 + u32::from(byte - b'0');
        if port > 65_535 {
            return false;
        }
    }
    true
}

/// `"[" IPv6address "]" [ ":" port ]`.
fn is_literal(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let Some((address, port)) = text[1..].split_once(']') else {
        return false;
    };
    let is_port = port.is_empty() || port.starts_with(':') && is_port(&port.as_bytes()[1..]);
    is_port && address.parse::<Ipv6Addr>().is_ok()
}

/// A name in which something is percent-encoded.
fn is_escaped_name(value: &[u8]) -> bool {
    let length = value.iter().position(|byte| *byte == b':');
    let (name, port) = value.split_at(length.unwrap_or(value.len()));
    are_escapes(name)
        && name.iter().all(|byte| NAME.has(*byte) || *byte == b'%')
        && port.get(1..).is_none_or(is_port)
}

/// Whether two hexadecimal digits follow each percent sign.
pub(super) fn are_escapes(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| {
        let digits = bytes.get(at + 1..at + 3);
        *byte != b'%' || digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}
