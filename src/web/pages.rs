//! Pages of errors, as resources (Twisted's `twisted.web.pages`), and in the form that the client
//! asks for.
//!
//! Each resource is a leaf, so every path below it gives the same page. Texts in a page are
//! escaped.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use deferred_reactor::Failure;
use http::{StatusCode, header};

use super::response::Content;
use super::{BodyPolicy, Html, Rendered, Request, RequestHead, Resource, Response};

/// A page with a status, a heading and a sentence.
///
/// ```
/// use prometheus_deferred::web::{StatusCode, Tree, pages::ErrorPage};
///
/// let root = Tree::new();
/// root.put_child("old", ErrorPage::new(StatusCode::GONE, "Moved away in 1998."));
/// ```
#[derive(Debug, Clone)]
pub struct ErrorPage {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl ErrorPage {
    /// A page for `status` that says `message`, which is text and not HTML.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl Resource for ErrorPage {
    fn is_leaf(&self) -> bool {
        true
    }

    fn body_policy(&self, _: &RequestHead) -> BodyPolicy {
        BodyPolicy::Refuse
    }

    fn render(&self, _: Request) -> Rendered {
        Response::page(self.status, self.message.clone()).into()
    }
}

/// The page for what is not there: status 404.
pub fn not_found() -> ErrorPage {
    ErrorPage::new(StatusCode::NOT_FOUND, "Sorry, there is nothing here.")
}

/// The page for a resource that this client may not see: status 403.
pub fn forbidden() -> ErrorPage {
    ErrorPage::new(StatusCode::FORBIDDEN, "Sorry, you may not see this.")
}

/// The subject of an error page.
#[derive(Debug, Clone, Copy)]
pub struct ErrorDetails<'r> {
    status: StatusCode,
    message: &'r str,
    head: Option<&'r RequestHead>,
}

impl<'r> ErrorDetails<'r> {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A sentence for the client. It may repeat what the client has sent, so it is escaped before it
    /// goes into a page.
    pub fn message(&self) -> &'r str {
        self.message
    }

    /// The head of the request; `None` if it could not be parsed.
    pub fn head(&self) -> Option<&'r RequestHead> {
        self.head
    }
}

type MakePage = Rc<dyn Fn(&ErrorDetails<'_>) -> Response>;

/// How a site makes the pages of errors.
#[derive(Clone, Default)]
pub(super) struct ErrorPages(Option<MakePage>);

impl ErrorPages {
    pub(super) fn of(make: impl Fn(&ErrorDetails<'_>) -> Response + 'static) -> Self {
        Self(Some(Rc::new(make)))
    }

    /// The page of an error, which has its status and is not itself the page of an error.
    pub(super) fn make(
        &self,
        status: StatusCode,
        message: &str,
        head: Option<&RequestHead>,
    ) -> Response {
        let details = ErrorDetails {
            status,
            message,
            head,
        };
        let page = self.0.as_deref().and_then(|make| ask(make, &details));
        let page = page.unwrap_or_else(|| Form::wanted(head).page(&details));
        match page.content {
            Content::Page(message) => Form::wanted(head).page(&ErrorDetails {
                message: &message,
                ..details
            }),
            Content::Whole(_) | Content::Pieces(_) => page,
        }
        .with_status(status)
    }
}

/// What the program makes of an error; `None` where that cannot be sent.
fn ask(
    make: &dyn Fn(&ErrorDetails<'_>) -> Response,
    details: &ErrorDetails<'_>,
) -> Option<Response> {
    let status = details.status;
    // What it shares with others is the program's to mind.
    match catch_unwind(AssertUnwindSafe(|| make(details))) {
        Ok(Response {
            content: Content::Pieces(_),
            ..
        }) if details.head.is_none() => {
            crate::logging::error!(
                target: "web",
                "the page of Site::error_pages for {status} streams, which the answer to a malformed \
                 request cannot; the usual page is sent instead: give the page whole"
            );
            None
        }
        Ok(page) => Some(page),
        Err(payload) => {
            crate::logging::error!(
                target: "web",
                "the function given to Site::error_pages panicked for {status}, and the usual page is \
                 sent instead: {}",
                Failure::from_panic(payload)
            );
            None
        }
    }
}

impl fmt::Debug for ErrorPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ErrorPages")
            .field(&self.0.is_some())
            .finish()
    }
}

/// The forms of an error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Html,
    Json,
}

impl Form {
    /// What the client asks for by name, and most of all; text for one that takes anything.
    fn wanted(head: Option<&RequestHead>) -> Self {
        let accept = head.and_then(|head| head.header(header::ACCEPT));
        let mut best = (Self::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let name = name.trim().to_ascii_lowercase();
            let form = match name.as_str() {
                "text/html" | "application/xhtml+xml" => Self::Html,
                "application/json" | "application/problem+json" => Self::Json,
                "text/plain" => Self::Text,
                _ => continue,
            };
            let weight = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                (name.trim().eq_ignore_ascii_case("q")).then(|| value.trim().parse().unwrap_or(1.0))
            });
            let weight: f32 = weight.unwrap_or(1.0);
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }

    fn page(self, details: &ErrorDetails<'_>) -> Response {
        let (status, message) = (details.status, details.message);
        let title = status.canonical_reason().unwrap_or("Unknown Status");
        match self {
            Self::Text => Response::new(format!("{} {title}\n\n{message}\n", status.as_u16())),
            Self::Html => html(
                &format!("{} - {title}", status.as_u16()),
                title,
                &format!("<p>{}</p>", escape(message)),
            ),
            // RFC 9457.
            Self::Json => Response::new(format!(
                "{{\"type\":\"about:blank\",\"title\":{},\"status\":{},\"detail\":{}}}\n",
                json_string(title),
                status.as_u16(),
                json_string(message)
            ))
            .with_content_type("application/problem+json"),
        }
        // What it repeats of the request is nothing but text, whatever a browser makes of it.
        .with_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
    }
}

/// A small HTML page; `body` is HTML.
pub(crate) fn html(title: &str, heading: &str, body: &str) -> Response {
    let (title, heading) = (escape(title), escape(heading));
    Response::new(Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         </head>\n<body>\n<h1>{heading}</h1>\n{body}\n</body>\n</html>\n"
    )))
}

/// Text, made safe to stand in HTML.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    Cow::Owned(escaped)
}

/// Text as a JSON string (RFC 8259, section 7).
fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for char in text.chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            char if char.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => json.push(char),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_json_cannot_end_its_string() {
        assert_eq!(
            json_string("a\"b\\c\nd\u{7f}é"),
            r#""a\"b\\c\u000ad\u007fé""#
        );
    }
}
