//! From a complete request to its response: who makes it, and when.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use deferred_reactor::health::{Callback, CallbackKind, Place, watch};
use deferred_reactor::net::{Transport, same_reason};
use deferred_reactor::{CancelledError, Deferred, Failure};
use http::{Method, StatusCode};

use super::{Answer, Channel, Current, Phase};
use crate::http1::ReplyTo;
use crate::web::request::Exchange;
use crate::web::response::allow_value;
use crate::web::site::Shared;
use crate::web::{ClientGoneError, Rendered, Request, Resource, pages};

/// A resource is named by its type when it is slow.
const RESOURCE: CallbackKind = CallbackKind::Other("resource");

/// How often a rendered resource may name another in its place.
const HOPS: usize = 32;

impl Channel {
    /// Renders a complete request.
    pub(super) fn dispatch(self: &Rc<Self>, mut exchange: Box<Exchange>) {
        let id = self.shared.next_id.get();
        self.shared.next_id.set(id + 1);
        exchange.id = id;
        let head = &exchange.head;
        self.current.set(Current {
            id,
            to: ReplyTo {
                version: head.version,
                is_head: head.method == Method::HEAD,
                persists: head.persists,
            },
            closes: false,
            sent: None,
        });
        self.phase.set(Phase::Answering);
        self.answer.set(Answer::Ours);
        let is_for_server = head.target() == "*" || head.method == Method::CONNECT;
        let request = Request::new(exchange, self.clone());
        let rendered = if is_for_server {
            Ok(answer_for_server(request))
        } else {
            self.render(self.shared.root.clone(), request)
        };
        self.settle(id, rendered, HOPS);
    }

    /// Walks down from `start` and renders what is found there. A panic becomes a failure.
    pub(super) fn render(
        self: &Rc<Self>,
        start: Rc<dyn Resource>,
        request: Request,
    ) -> Result<Rendered, Failure> {
        // Unwind safety: the request comes back through its drop, and what a resource shares with
        // others is its own to mind.
        catch_unwind(AssertUnwindSafe(|| {
            let Some(resource) = Shared::find(start, &request) else {
                return pages::not_found().render(request);
            };
            let name = || Callback::new(RESOURCE, Place::Type(resource.type_name()));
            match watch(name, || resource.render(request)) {
                Rendered::NotAllowed => self.not_allowed(&*resource),
                rendered => rendered,
            }
        }))
        .map_err(Failure::from_panic)
    }

    /// The page for a method that a resource does not have (RFC 9110, 15.5.6).
    pub(super) fn not_allowed(&self, resource: &dyn Resource) -> Rendered {
        let mut methods = resource.allowed_methods();
        let Some(exchange) = self.returned.take() else {
            return Failure::message("a resource refused the method of a request and kept it")
                .into();
        };
        let (method, target) = (&exchange.head.method, exchange.head.target());
        // It just said that it does not have this one.
        methods.retain(|known| known != method);
        let others = match methods.is_empty() {
            true => String::new(),
            false => format!(", but {}", allow_value(&methods)),
        };
        let message = format!("{target} does not take {method}{others}.");
        self.returned.set(Some(exchange));
        pages::page(StatusCode::METHOD_NOT_ALLOWED, &message)
            .with_allow(&methods)
            .into()
    }

    /// Does what `render` returned asks for. `hops` is how many more resources may be named.
    pub(super) fn settle(
        self: &Rc<Self>,
        id: u64,
        rendered: Result<Rendered, Failure>,
        hops: usize,
    ) {
        let mut rendered = rendered;
        for hops in (0..hops).rev() {
            if !self.is_current(id) {
                // Finished before `render` returned, or the client has gone.
                return log_late_failure(&rendered);
            }
            match rendered {
                Err(failure) | Ok(Rendered::Failed(failure)) => return self.fail(&failure),
                Ok(Rendered::Response(response)) => {
                    let exchange = self.reclaim(id);
                    self.respond(exchange, response);
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
                    rendered = self.render(resource, Request::new(exchange, self.clone()));
                }
            }
        }
        if self.is_current(id) {
            self.fail(&Failure::message("resources name each other in a circle"));
        }
    }

    pub(super) fn wait_for(self: &Rc<Self>, id: u64, deferred: Deferred<Rendered>, hops: usize) {
        self.waiting.set(Some(deferred.canceller()));
        let channel = self.clone();
        drop(deferred.add_both(move |result| {
            // A later request may have one of its own by now.
            if channel.is_current(id) {
                channel.waiting.take();
            }
            channel.settle(id, result, hops);
            Ok(())
        }));
    }

    /// The request that was dropped by `render`; a bare one if it is held somewhere.
    pub(super) fn reclaim(&self, id: u64) -> Box<Exchange> {
        self.returned.take().unwrap_or_else(|| {
            let mut exchange = self.shared.take_exchange();
            exchange.id = id;
            exchange
        })
    }

    /// A [`Request`] was dropped unfinished.
    pub(in crate::web) fn dropped(self: &Rc<Self>, exchange: Box<Exchange>) {
        if !self.is_current(exchange.id) {
            return self.shared.put_exchange(exchange);
        }
        match self.answer.get() {
            Answer::Ours => {
                self.returned.replace(Some(exchange));
            }
            Answer::TheHolders => self.abandoned(exchange),
        }
    }

    pub(super) fn abandoned(self: &Rc<Self>, exchange: Box<Exchange>) {
        let (method, target) = (&exchange.head.method, exchange.head.target());
        let failure = Failure::message(format!(
            "the request {method} {target} was dropped without being finished"
        ));
        self.returned.replace(Some(exchange));
        self.fail(&failure);
    }

    /// Answers the current request with a page that says it failed, or cuts it off if it is too
    /// late for that.
    pub(super) fn fail(self: &Rc<Self>, failure: &Failure) {
        log::error!(target: "web", "a request failed: {failure:#?}");
        let current = self.current.get();
        let mut exchange = self.reclaim(current.id);
        if current.sent.is_some() {
            return self.cut_off(exchange);
        }
        exchange.response.clear();
        let text;
        let message = if self.shared.displays_tracebacks {
            text = format!("{failure:#?}");
            &text
        } else {
            "Sorry, this went wrong on our side."
        };
        self.respond(
            exchange,
            pages::page(StatusCode::INTERNAL_SERVER_ERROR, message),
        );
    }

    /// Ends the connection in the middle of a response. Nothing that follows is looked at.
    pub(super) fn cut_off(&self, exchange: Box<Exchange>) {
        self.shared.put_exchange(exchange);
        self.phase.set(Phase::Closing);
        self.transport().abort_connection();
    }

    /// Whether this is the request that is being answered.
    pub(in crate::web) fn is_current(&self, id: u64) -> bool {
        self.phase.get() == Phase::Answering && self.current.get().id == id
    }

    pub(in crate::web) fn notify_finish(&self, id: u64) -> Deferred<()> {
        if !self.is_current(id) {
            return Deferred::fail(ClientGoneError);
        }
        let (deferred, resolver) = Deferred::pending();
        let mut to_notify = self.to_notify.take().into_vec();
        to_notify.push(resolver);
        self.to_notify.set(to_notify.into());
        deferred
    }

    /// The connection is gone, and with it the request that was being answered.
    pub(super) fn lost(&self, reason: &Failure) {
        self.phase.set(Phase::Gone);
        if let Some(call) = self.deadline.take() {
            let _ = call.cancel();
        }
        self.incoming.take();
        self.input.take();
        if let Some(exchange) = self.returned.take() {
            self.shared.put_exchange(exchange);
        }
        if let Some(canceller) = self.waiting.take() {
            canceller.cancel();
        }
        for resolver in self.to_notify.take() {
            let _ = resolver.errback(same_reason(reason));
        }
    }

    pub(in crate::web) fn transport(&self) -> &Transport {
        self.transport
            .get()
            .expect("a connection is made before anything happens on it")
    }
}

/// Tells of a failure that nobody is left to be answered with.
fn log_late_failure(rendered: &Result<Rendered, Failure>) {
    if let Err(failure) | Ok(Rendered::Failed(failure)) = rendered
        && !failure.is::<CancelledError>()
    {
        log::error!(target: "web", "a request failed after its end: {failure:#?}");
    }
}

/// Answers what is asked of the server itself: `OPTIONS *`, and nothing else.
fn answer_for_server(request: Request) -> Rendered {
    if *request.method() == Method::OPTIONS {
        return ().into();
    }
    let message = format!("The server as a whole does not take {}.", request.method());
    pages::page(StatusCode::METHOD_NOT_ALLOWED, &message)
        .with_allow(&[Method::OPTIONS])
        .into()
}
