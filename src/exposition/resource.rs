//! `/metrics` as a resource.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use prometheus::Registry;

use super::{gzip, text};
use crate::web::{Method, Rendered, Request, Resource, Response, header};

/// Answers with the metrics of a registry in the text format, as Prometheus scrapes it.
///
/// - A leaf: paths below it answer the same, except `favicon.ico`, which is empty.
/// - `?name[]=a&name[]=b` gives only the samples of these names.
/// - The body is compressed for clients that accept gzip, as Prometheus does.
///
/// ```
/// use prometheus_deferred::MetricsResource;
/// use prometheus_deferred::web::{Site, Tree};
///
/// let root = Tree::new();
/// root.put_child("metrics", MetricsResource::new());
/// let site = Site::new(root);
/// # let _ = site;
/// ```
///
/// It stands for `prometheus_client.twisted.MetricsResource`.
#[derive(Clone)]
pub struct MetricsResource {
    registry: Registry,
    compresses: bool,
}

impl Default for MetricsResource {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsResource {
    /// The metrics of the default registry, which the `register_*!` macros use.
    pub fn new() -> Self {
        Self::with_registry(prometheus::default_registry().clone())
    }

    /// The metrics of a registry of your own.
    pub fn with_registry(registry: Registry) -> Self {
        Self {
            registry,
            compresses: true,
        }
    }

    /// Whether to compress for those who accept it; on unless set.
    pub fn compression(mut self, on: bool) -> Self {
        self.compresses = on;
        self
    }

    fn exposition(&self, request: &Request) -> Vec<u8> {
        let families = self.registry.gather();
        let mut body = Vec::new();
        let names: HashSet<_> = request
            .args()
            .filter(|(name, _)| name == "name[]")
            .map(|(_, value)| value)
            .collect();
        if names.is_empty() {
            text::encode(&families, &mut body);
        } else {
            text::encode_named(&families, |name| names.contains(name), &mut body);
        }
        body
    }
}

impl Resource for MetricsResource {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render_get(&self, request: Request) -> Rendered {
        if request.path().ends_with("/favicon.ico") {
            return ().into();
        }
        let body = self.exposition(&request);
        let mut response = Response::new(Bytes::new()).with_content_type(text::CONTENT_TYPE);
        if self.compresses {
            response = response.with_header(header::VARY, "Accept-Encoding");
            let accepted = request
                .headers()
                .filter(|(name, _)| header::ACCEPT_ENCODING.as_str().eq_ignore_ascii_case(name))
                .filter_map(|(_, value)| std::str::from_utf8(value).ok());
            if gzip::is_accepted(accepted)
                && let Some(compressed) = gzip::compress(&body)
            {
                return response
                    .with_header(header::CONTENT_ENCODING, "gzip")
                    .with_body(compressed)
                    .into();
            }
        }
        response.with_body(body).into()
    }

    fn render_options(&self, _: Request) -> Rendered {
        Response::default()
            .with_allow(&self.allowed_methods())
            .into()
    }

    fn allowed_methods(&self) -> Vec<Method> {
        vec![Method::GET, Method::OPTIONS]
    }
}

impl fmt::Debug for MetricsResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsResource")
            .field("compresses", &self.compresses)
            .finish_non_exhaustive()
    }
}
