//! From a request to its response: who makes it, and when.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use deferred_reactor::health::{Callback, CallbackKind, Place, watch};
use deferred_reactor::{CancelledError, Deferred, Failure};
use http::{Method, StatusCode};

use super::{Answer, Connection, Replying, Sent};
use crate::http1::BodyFraming;
use crate::web::klein::not_allowed;
use crate::web::request::Exchange;
use crate::web::site::SiteCore;
use crate::web::{
    BodyError, RefusalReason, Rendered, Request, RequestOutcome, Resource, Response, pages,
};

/// A resource is named by its type when it is slow.
const RESOURCE: CallbackKind = CallbackKind::Other("resource");

/// How often a rendered resource may name another in its place.
const HOPS: usize = 32;

impl Connection {
    /// Renders a request that has no body, or whose body is not wanted.
    #[inline]
    pub(super) fn dispatch(self: &Rc<Self>, exchange: Box<Exchange>) {
        let id = exchange.id;
        let rendered = if exchange.head.is_for_server() {
            self.route_found_of(&exchange.head);
            Ok(answer_for_server(Request::new(exchange, self.clone())))
        } else {
            self.render(self.site.root.clone(), exchange)
        };
        self.settle(id, rendered);
    }

    /// Walks down from `start` and renders what is found there. A panic becomes a failure.
    #[inline]
    fn render(
        self: &Rc<Self>,
        start: Rc<dyn Resource>,
        exchange: Box<Exchange>,
    ) -> Result<Rendered, Failure> {
        let request = Request::new(exchange, self.clone());
        // Unwind safety: the request comes back through its drop, and what a resource shares with
        // others is its own to mind.
        let rendering = Cell::new("");
        catch_unwind(AssertUnwindSafe(|| {
            let found = SiteCore::find(start, &request);
            self.render_request(found, request, &rendering)
        }))
        .map_err(|payload| self.panicked(payload, rendering.get()))
    }

    /// Renders the resource that was found for a request.
    pub(super) fn render_found(
        self: &Rc<Self>,
        found: Option<Rc<dyn Resource>>,
        exchange: Box<Exchange>,
    ) -> Result<Rendered, Failure> {
        let request = Request::new(exchange, self.clone());
        let rendering = Cell::new("");
        catch_unwind(AssertUnwindSafe(|| {
            self.render_request(found, request, &rendering)
        }))
        .map_err(|payload| self.panicked(payload, rendering.get()))
    }

    /// The failure of a resource that panicked. Where in it, only the program's panic hook knows: it
    /// is named by its type, and located where the site was made.
    pub(super) fn panicked(&self, payload: Box<dyn Any + Send>, resource: &str) -> Failure {
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref().map(String::as_str));
        let payload = match said {
            Some(said) if !resource.is_empty() => Box::new(format!("{said}, in {resource}")),
            _ => payload,
        };
        Failure::from_panic_at(payload, self.site.line)
    }

    /// `rendering` is set to the type of what is rendered.
    #[inline]
    fn render_request(
        self: &Rc<Self>,
        found: Option<Rc<dyn Resource>>,
        request: Request,
        rendering: &Cell<&'static str>,
    ) -> Rendered {
        let Some(resource) = found else {
            request.matches_nothing();
            return pages::not_found().render(request);
        };
        if !resource.has_routes() {
            self.route_found_of(request.head());
        }
        rendering.set(resource.type_name());
        let name = || Callback::new(RESOURCE, Place::Type(resource.type_name()));
        let is_head = *request.method() == Method::HEAD;
        let is_known = is_known(request.method());
        match watch(name, || resource.render(request)) {
            Rendered::NotAllowed => {
                let methods = resource.allowed_methods();
                // A resource that renders by itself may know GET alone (RFC 9110, 9.3.2).
                if is_head
                    && methods.contains(&Method::GET)
                    && let Some(mut exchange) = self.returned.take()
                {
                    exchange.stands_for_get = true;
                    let request = Request::new(exchange, self.clone());
                    match watch(name, || resource.render(request)) {
                        Rendered::NotAllowed => {}
                        rendered => return rendered,
                    }
                }
                self.not_allowed(methods)
            }
            rendered => {
                if !is_known && rendered.status() == Some(StatusCode::NOT_IMPLEMENTED) {
                    self.count_refusal(RefusalReason::MethodUnknown);
                }
                rendered
            }
        }
    }

    /// The page for a method that a resource does not have (RFC 9110, 15.5.6).
    pub(super) fn not_allowed(&self, mut methods: Vec<Method>) -> Rendered {
        let Some(exchange) = self.returned.take() else {
            return Failure::message("a resource refused the method of a request and kept it")
                .into();
        };
        // It just said that it does not have this one.
        methods.retain(|known| known != exchange.head.method());
        let response = not_allowed(&exchange.head, &methods);
        self.returned.set(Some(exchange));
        response.into()
    }

    /// Does what `render` returned asks for.
    #[inline]
    pub(super) fn settle(self: &Rc<Self>, id: u64, rendered: Result<Rendered, Failure>) {
        match rendered {
            // What nearly all are.
            Ok(Rendered::Response(response)) if self.is_replying_to(id) => {
                let exchange = self.reclaim(id);
                self.clone().send_response(exchange, response);
            }
            rendered => self.settle_within(id, rendered, HOPS),
        }
    }

    /// `hops` is how many more resources may be named.
    fn settle_within(self: &Rc<Self>, id: u64, rendered: Result<Rendered, Failure>, hops: usize) {
        let mut rendered = rendered;
        for hops in (0..hops).rev() {
            if !self.is_replying_to(id) || self.flags.is_cut.get() {
                // Finished before `render` returned, or cut off, or the client has gone.
                return self.log_late(rendered);
            }
            match rendered {
                Err(failure) | Ok(Rendered::Failed(failure)) => return self.fail(&failure),
                Ok(Rendered::Response(response)) => {
                    let exchange = self.reclaim(id);
                    self.clone().send_response(exchange, response);
                    return;
                }
                Ok(Rendered::NotAllowed) => {
                    return self.fail(&Failure::message("NotAllowed has no resource to ask"));
                }
                Ok(Rendered::NotDoneYet) => {
                    self.answer.set(Answer::TheHolders);
                    if let Some(exchange) = self.returned.take() {
                        self.abandoned(exchange);
                    }
                    return;
                }
                Ok(Rendered::Deferred(deferred)) => {
                    return self.wait_for(id, deferred.map(Rendered::Response), hops);
                }
                Ok(Rendered::DeferredResource(deferred)) => {
                    return self.wait_for(id, deferred.map(Rendered::Resource), hops);
                }
                Ok(Rendered::Resource(resource)) => {
                    let Some(exchange) = self.returned.take() else {
                        let message = "a resource named another for a request and kept it";
                        return self.fail(&Failure::message(message));
                    };
                    rendered = self.render(resource, exchange);
                }
            }
        }
        if self.is_replying_to(id) {
            self.fail(&Failure::message("resources name each other in a circle"));
        }
    }

    fn wait_for(self: &Rc<Self>, id: u64, deferred: Deferred<Rendered>, hops: usize) {
        self.waiting.set(deferred.canceller());
        let connection = self.clone();
        drop(deferred.add_both(move |result| {
            // A later request may have one of its own by now.
            if connection.is_replying_to(id) {
                connection.waiting.take();
            }
            connection.settle_within(id, result, hops);
            Ok(())
        }));
    }

    /// The request that was dropped by `render`; one with its head alone if it is held somewhere.
    pub(super) fn reclaim(&self, id: u64) -> Box<Exchange> {
        self.returned.take().unwrap_or_else(|| {
            let mut exchange = self.site.spares.take_exchange();
            exchange.id = id;
            let head = self.head.take();
            if let Some(head) = &head {
                exchange.head = head.clone();
            }
            self.head.set(head);
            exchange
        })
    }

    pub(super) fn abandoned(self: &Rc<Self>, exchange: Box<Exchange>) {
        let (method, target) = (exchange.head.method(), exchange.head.target());
        let failure = Failure::message(format!(
            "the request {method} {target} was dropped without being finished"
        ));
        self.returned.replace(Some(exchange));
        self.fail(&failure);
    }

    /// Answers the current request with a page that says it failed, or cuts it off if it is too
    /// late for that.
    pub(super) fn fail(self: &Rc<Self>, failure: &Failure) {
        let current = self.current.get();
        let exchange = self.reclaim(current.id);
        let refused = refused_body(failure);
        match refused {
            // The client's doing, and counted as that.
            Some(_) => log::debug!(
                target: "web",
                "{}: {failure}",
                self.describe(&exchange.head)
            ),
            None => {
                crate::logging::error!(
                    target: "web",
                    "{} failed: {failure:#?}",
                    self.describe(&exchange.head)
                );
                self.has_outcome(RequestOutcome::Failed);
            }
        }
        if current.body != Sent::Nothing {
            return self.cut_off(exchange);
        }
        let (status, message) = match refused {
            Some((status, message)) => (status, message),
            None if self.site.displays_tracebacks => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{failure:#?}"))
            }
            None => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Sorry, this went wrong on our side.".to_owned(),
            ),
        };
        let mut exchange = exchange;
        exchange.response.clear();
        self.clone()
            .send_response(exchange, Response::page(status, message));
    }

    /// Answers a request that came as far as its head, and that the server refuses by itself.
    pub(super) fn answer_refusal(self: &Rc<Self>, reason: RefusalReason, message: String) {
        self.count_refusal(reason);
        let mut current = self.current.get();
        current.closes = true;
        self.current.set(current);
        let mut exchange = self.reclaim(current.id);
        exchange.response.clear();
        let status = reason.status().unwrap_or(StatusCode::BAD_REQUEST);
        self.clone()
            .send_response(exchange, Response::page(status, message));
    }

    /// Whether this is the request that is being answered.
    pub(super) fn is_replying_to(&self, id: u64) -> bool {
        self.is_replying() && self.current.get().id == id
    }

    /// Logs a failure or a body that came after the response was complete.
    fn log_late(self: &Rc<Self>, rendered: Result<Rendered, Failure>) {
        match rendered {
            Ok(Rendered::Deferred(deferred)) => {
                let connection = self.clone();
                drop(deferred.add_both(move |result| {
                    connection.log_late(result.map(Rendered::Response));
                    Ok(())
                }));
            }
            Err(failure) | Ok(Rendered::Failed(failure)) if !failure.is::<CancelledError>() => {
                crate::logging::error!(
                    target: "web",
                    "a request from {} failed after its end: {failure:#?}",
                    self.client()
                );
            }
            // To a client that has gone, nothing would have been said.
            Ok(Rendered::Response(response))
                if !response.is_empty()
                    && self.replying.get() != Replying::Gone
                    && !self.flags.is_cut.get() =>
            {
                crate::logging::warn!(
                    target: "web",
                    "a handler finished a request from {} and then returned a body of {} bytes, \
                     which was dropped: return (), or do not finish the request",
                    self.client(),
                    response.body().len()
                );
            }
            _ => {}
        }
    }

    /// Ends the connection in the middle of a response. Nothing that follows is looked at.
    pub(super) fn cut_off(self: &Rc<Self>, exchange: Box<Exchange>) {
        self.cut();
        self.keep_for_end(exchange);
    }

    /// Whether a response has no body, whatever is written.
    pub(super) fn sends_no_body(&self) -> bool {
        self.current.get().body == Sent::Head(BodyFraming::NoBody)
    }
}

/// The answer to a request whose own body could not be read.
fn refused_body(failure: &Failure) -> Option<(StatusCode, String)> {
    let error: &BodyError = failure.error().downcast_ref()?;
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        BodyError::Malformed { .. } | BodyError::Truncated { .. } => StatusCode::BAD_REQUEST,
        BodyError::Answered { .. } | BodyError::AlreadyReading => return None,
    };
    Some((status, format!("This went wrong: {error}.")))
}

/// Whether a method is one that resources have a `render_*` for, or that no resource has.
fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::PATCH
            | Method::OPTIONS
            | Method::TRACE
            | Method::CONNECT
    )
}

/// Answers what is asked of the server itself: `OPTIONS *`, and nothing else.
fn answer_for_server(request: Request) -> Rendered {
    if *request.method() == Method::OPTIONS {
        return ().into();
    }
    let message = format!(
        "{} is not allowed for the server as a whole; allowed: OPTIONS.",
        request.method()
    );
    Response::page(StatusCode::METHOD_NOT_ALLOWED, message)
        .with_allow(&[Method::OPTIONS])
        .into()
}
