//! The standard HTML pages, as resources (Twisted's `twisted.web.pages`).
//!
//! Each is a leaf, so every path below it gives the same page. What is put into a page is escaped.

use std::borrow::Cow;

use http::StatusCode;

use super::{Rendered, Request, Resource, Response};

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

    fn render(&self, _: Request) -> Rendered {
        page(self.status, &self.message).into()
    }
}

/// The page for what is not there: status 404.
pub fn not_found() -> ErrorPage {
    ErrorPage::new(StatusCode::NOT_FOUND, "Sorry, there is nothing here.")
}

/// The page for what is not shown to everybody: status 403.
pub fn forbidden() -> ErrorPage {
    ErrorPage::new(StatusCode::FORBIDDEN, "Sorry, you may not see this.")
}

/// The response that such a page gives.
pub(crate) fn page(status: StatusCode, message: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Unknown Status");
    html(
        &format!("{} - {title}", status.as_u16()),
        title,
        &format!("<p>{}</p>", escape(message)),
    )
    .with_status(status)
}

/// A small HTML page; `body` is HTML.
pub(crate) fn html(title: &str, heading: &str, body: &str) -> Response {
    let (title, heading) = (escape(title), escape(heading));
    Response::new(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         </head>\n<body>\n<h1>{heading}</h1>\n{body}\n</body>\n</html>\n"
    ))
    .with_content_type("text/html; charset=utf-8")
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
