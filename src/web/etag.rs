//! Entity tags: names for one state of a resource (RFC 9110, 8.8.3).

use std::borrow::Cow;
use std::fmt;

/// Names one state of a resource, so that a client can ask whether its copy is still current.
///
/// A strong tag changes with every byte of the body; a weak one stays the same for bodies that mean
/// the same. Ranges and `If-Match` need a strong one.
///
/// ```
/// use prometheus_deferred::web::EntityTag;
///
/// assert_eq!(EntityTag::strong("v7").to_string(), "\"v7\"");
/// assert_eq!(EntityTag::weak("v7").to_string(), "W/\"v7\"");
/// assert_eq!(EntityTag::strong("my \"file\"").to_string(), "\"my%20%22file%22\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    /// Without the quotes; visible ASCII without `"`.
    opaque: Cow<'static, str>,
    is_weak: bool,
}

impl EntityTag {
    /// A tag that changes with every byte. `opaque` is given without quotes.
    ///
    /// What may not stand in a tag is percent-encoded: quotes, spaces, control bytes, whatever is not
    /// ASCII, and the percent sign. So different texts make different tags.
    pub fn strong(opaque: impl Into<Cow<'static, str>>) -> Self {
        Self {
            opaque: encoded(opaque.into()),
            is_weak: false,
        }
    }

    /// A tag that is the same for bodies that mean the same. `opaque` is given without quotes, and
    /// encoded as in [`strong`](Self::strong).
    pub fn weak(opaque: impl Into<Cow<'static, str>>) -> Self {
        Self {
            is_weak: true,
            ..Self::strong(opaque)
        }
    }

    /// Whether the tag is weak.
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    fn as_received(&self) -> ReceivedTag<'_> {
        ReceivedTag {
            opaque: self.opaque.as_bytes(),
            is_weak: self.is_weak,
        }
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_weak { "W/" } else { "" };
        write!(f, "{prefix}\"{}\"", self.opaque)
    }
}

/// Percent-encodes what may not stand in a tag.
fn encoded(opaque: Cow<'static, str>) -> Cow<'static, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if opaque.bytes().all(is_plain) {
        return opaque;
    }
    let mut encoded = String::with_capacity(opaque.len() + 16);
    for byte in opaque.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    Cow::Owned(encoded)
}

/// A tag as a client sent it. It may hold bytes that ours never hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceivedTag<'r> {
    opaque: &'r [u8],
    is_weak: bool,
}

/// How two tags are compared (RFC 9110, 8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Equal, and neither is weak.
    Strong,
    /// Equal, whether weak or not.
    Weak,
}

impl<'r> ReceivedTag<'r> {
    /// A field value that is one tag.
    pub(crate) fn read(value: &'r [u8]) -> Option<Self> {
        let (tag, rest) = Self::split(value)?;
        rest.is_empty().then_some(tag)
    }

    /// The tag that `bytes` begin with, and what follows it.
    fn split(bytes: &'r [u8]) -> Option<(Self, &'r [u8])> {
        // The prefix is case-sensitive.
        let (is_weak, quoted) = match bytes.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, bytes),
        };
        let opaque = quoted.strip_prefix(b"\"")?;
        let length = opaque.iter().position(|byte| *byte == b'"')?;
        let (opaque, rest) = (&opaque[..length], &opaque[length + 1..]);
        let is_allowed = |byte: &u8| byte.is_ascii_graphic() || *byte >= 0x80;
        let tag = Self { opaque, is_weak };
        opaque.iter().all(is_allowed).then_some((tag, rest))
    }

    pub(crate) fn equals(&self, other: &EntityTag, comparison: Comparison) -> bool {
        let other = other.as_received();
        let is_strong = !self.is_weak && !other.is_weak;
        self.opaque == other.opaque && (is_strong || comparison == Comparison::Weak)
    }
}

/// `*`, or tags with commas between them, in one field line or several.
#[derive(Debug, Clone, Default)]
pub(crate) struct TagList<'r> {
    /// The values of the field lines; none if there is no such field.
    lines: Vec<&'r [u8]>,
}

impl<'r> TagList<'r> {
    pub(crate) fn add_line(&mut self, value: &'r [u8]) {
        self.lines.push(value);
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the list names `current`; `*` names whatever there is.
    ///
    /// A list in which anything is not a tag names nothing: for `If-None-Match` the client then gets
    /// the whole body, for `If-Match` nothing is changed.
    pub(crate) fn names(&self, current: Option<&EntityTag>, comparison: Comparison) -> bool {
        if self.lines == [b"*"] {
            return true;
        }
        let mut is_named = false;
        let is_list = self.lines.iter().all(|line| {
            each_tag(line, |tag| {
                is_named |= current.is_some_and(|current| tag.equals(current, comparison));
            })
        });
        is_list && is_named
    }
}

/// Calls `visit` for the tags in a line; whether there is nothing but tags. Empty elements are
/// allowed (RFC 9110, 5.6.1.2).
fn each_tag<'r>(line: &'r [u8], mut visit: impl FnMut(ReceivedTag<'r>)) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut rest = line;
    let mut expects_comma = false;
    loop {
        match rest {
            [] => return true,
            [byte, after @ ..] if is_blank(byte) => rest = after,
            [b',', after @ ..] => {
                expects_comma = false;
                rest = after;
            }
            _ if expects_comma => return false,
            _ => match ReceivedTag::split(rest) {
                Some((tag, after)) => {
                    visit(tag);
                    expects_comma = true;
                    rest = after;
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'r>(lines: &[&'r str]) -> TagList<'r> {
        let mut list = TagList::default();
        for line in lines {
            list.add_line(line.as_bytes());
        }
        list
    }

    /// Every row: the field, and whether it names the strong `"a"` in a weak and a strong comparison.
    #[test]
    fn lists_of_tags_are_read_strictly() {
        let current = EntityTag::strong("a");
        let rows: &[(&[&str], bool, bool)] = &[
            (&["\"a\""], true, true),
            (&["W/\"a\""], true, false),
            (&["*"], true, true),
            (&["\"b\""], false, false),
            (&["\"b\", \"a\""], true, true),
            (&["\"b\",\"a\""], true, true),
            (&["\"b\" \t,\t \"a\""], true, true),
            (&[", ,\"a\",,"], true, true),
            (&["\"b\"", "\"a\""], true, true),
            // Commas and blanks.
            (&["\"x,\"a\",y\""], false, false),
            (&["\"b,c\", \"a\""], true, true),
            (&["\"b,\"", "\"a\""], true, true),
            // What is no tag makes the list name nothing.
            (&["a"], false, false),
            (&["\"a\", b"], false, false),
            (&["b, \"a\""], false, false),
            (&["\"a"], false, false),
            (&["a\""], false, false),
            (&["\"a\" \"b\""], false, false),
            (&["\"a\"\"b\""], false, false),
            (&["w/\"a\""], false, false),
            (&["W/ \"a\""], false, false),
            (&["'a'"], false, false),
            (&["\"a b\", \"a\""], false, false),
            (&["\"a\u{1}\", \"a\""], false, false),
            (&["*, \"a\""], false, false),
            (&["\"a\", *"], false, false),
            (&["*", "*"], false, false),
            (&["**"], false, false),
            (&[""], false, false),
            (&[], false, false),
        ];
        for (lines, weak, strong) in rows {
            let list = list(lines);
            let names = |comparison| list.names(Some(&current), comparison);
            assert_eq!(names(Comparison::Weak), *weak, "weak {lines:?}");
            assert_eq!(names(Comparison::Strong), *strong, "strong {lines:?}");
        }
    }

    #[test]
    fn weak_tags_are_never_strongly_equal() {
        let weak = EntityTag::weak("a");
        for value in ["\"a\"", "W/\"a\""] {
            assert!(list(&[value]).names(Some(&weak), Comparison::Weak));
            assert!(!list(&[value]).names(Some(&weak), Comparison::Strong));
        }
    }

    #[test]
    fn nothing_but_an_asterisk_names_what_has_no_tag() {
        assert!(list(&["*"]).names(None, Comparison::Strong));
        assert!(!list(&["\"a\""]).names(None, Comparison::Weak));
    }

    #[test]
    fn a_tag_of_any_text_is_read_as_itself() {
        for text in [
            "",
            "v7",
            "a,b",
            "my \"file\"",
            "100%",
            "%31",
            "1",
            "\u{e9}\r\nX: y",
        ] {
            let tag = EntityTag::strong(text);
            let sent = tag.to_string();
            let received = ReceivedTag::read(sent.as_bytes()).expect("our own tags are valid");
            assert!(received.equals(&tag, Comparison::Strong), "{text:?}");
            assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{sent}");
        }
        assert_ne!(EntityTag::strong("%31"), EntityTag::strong("1"));
    }
}
