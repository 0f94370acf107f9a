//! What a request can be asked, where it can be moved, and how it ends.

mod support;

use std::cell::RefCell;
use std::time::Duration;

use prometheus_deferred::net::{ConnectionDone, ConnectionLost};
use prometheus_deferred::web::{ClientGoneError, NOT_DONE_YET, Rendered, Request, Site, header};
use prometheus_deferred::{CancelledError, Deferred, Resolver, defer_later};
use support::{Server, keep, leaf, logged, note, times_logged};

/// W-31.
#[test]
fn notify_finish_fires_for_everyone_when_the_response_is_complete() {
    let server = Server::of(|request| -> Rendered {
        for number in 1..=2 {
            drop(
                request
                    .notify_finish()
                    .map(move |()| note(format!("told {number}"))),
            );
        }
        match request.path() {
            "/" => "at once".into(),
            _ => keep(request),
        }
    });
    assert_eq!(server.get("/").text(), "at once");
    assert_eq!(server.left_notes(), ["told 1", "told 2"]);

    let mut client = server.connect();
    client.get("/later");
    assert_eq!(server.next_note(), "/later");
    server.with_kept("/later", |mut request| {
        request.write("part");
        note("written");
        request.finish();
    });
    assert_eq!(client.reply().text(), "part");
    assert_eq!(server.left_notes(), ["written", "told 1", "told 2"]);
}

/// W-31, W-32.
#[test]
fn a_client_that_goes_away_is_told_to_those_who_wait() {
    let server = Server::of(|request| {
        for _ in 0..2 {
            drop(request.notify_finish().add_both(|result| {
                let failure = result.unwrap_err();
                let is_reason = failure.is::<ConnectionDone>() || failure.is::<ConnectionLost>();
                note(format!("gone {is_reason}"));
                Ok(())
            }));
        }
        keep(request)
    });
    let mut client = server.connect();
    client.get("/a");
    assert_eq!(server.next_note(), "/a");
    drop(client);
    assert_eq!(server.notes(2), ["gone true", "gone true"]);

    server.with_kept("/a", |mut request| {
        assert!(!request.is_connected());
        assert_eq!(request.client_address(), None);
        assert_eq!((request.path(), request.header("host")), ("/a", Some("h")));
        request.write("to nobody");
        let late = request.notify_finish();
        assert!(late.result().unwrap_err().is::<ClientGoneError>());
        let finished = request.finish();
        assert!(finished.is_err());
        assert!(finished.into_result().is_err());
    });
}

/// W-31. Callbacks may do what they like: panic, answer others, write to the log.
#[test]
fn notify_finish_callbacks_may_answer_other_requests() {
    let server = Server::of(|request| -> Rendered {
        if request.path() == "/waits" {
            return keep(request);
        }
        let told = request.notify_finish();
        drop(told.map(|()| support::with_kept("/waits", |waits| waits.respond("at last").is_ok())));
        drop(
            request
                .notify_finish()
                .map(|()| panic!("a callback of notify_finish")),
        );
        "first".into()
    });
    let mut waits = server.connect();
    waits.get("/waits");
    assert_eq!(server.next_note(), "/waits");
    let mut first = server.connect();
    first.get("/first");
    assert_eq!(first.reply().text(), "first");
    assert_eq!(waits.reply().text(), "at last");
    logged("a callback of notify_finish");
}

/// W-34.
#[test]
fn a_body_written_in_parts_is_chunked_or_ends_with_the_connection() {
    let server = Server::of(|mut request| {
        for part in ["Hello", "", ", ", "World!"] {
            request.write(part);
        }
        request.finish();
        NOT_DONE_YET
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let head = client.head_reply();
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(head.header("Content-Length"), None);
    assert_eq!(
        client.rest(),
        b"5\r\nHello\r\n2\r\n, \r\n6\r\nWorld!\r\n0\r\n\r\n"
    );

    let mut old = server.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let head = old.head_reply();
    assert_eq!(head.header("Transfer-Encoding"), None);
    assert_eq!(head.header("Content-Length"), None);
    assert_eq!(head.header("Connection"), Some("close"));
    assert_eq!(old.rest(), b"Hello, World!");
}

/// W-34. What was written is with the client before the rest is.
#[test]
fn parts_are_sent_as_they_are_written() {
    let server = Server::of(|mut request| {
        request.write("one");
        keep(request)
    });
    let mut client = server.connect();
    client.get("/");
    client.head_reply();
    assert_eq!(client.take(8), b"3\r\none\r\n");
    server.with_kept("/", |request| request.respond("two").is_ok());
    assert_eq!(client.take(13), b"3\r\ntwo\r\n0\r\n\r\n");
}

/// W-34. A declared length is kept to.
#[test]
fn a_declared_length_is_what_is_sent() {
    let server = Server::of(|mut request| {
        request.set_header(header::CONTENT_LENGTH, "6");
        match request.path() {
            "/exact" => {
                request.write("abc");
                request.write("def");
            }
            "/more" => {
                request.write("abc");
                request.write("defghi");
                request.write("jkl");
            }
            _ => request.write("abc"),
        }
        request.finish();
        NOT_DONE_YET
    });
    let mut client = server.connect();
    for target in ["/exact", "/more", "/exact"] {
        client.get(target);
        let reply = client.reply();
        assert_eq!(reply.header("Content-Length"), Some("6"));
        assert_eq!(reply.text(), "abcdef", "{target}");
    }
    logged("/more: 3 bytes more than its content-length");
}

/// W-34. A response that ends before its declared length can only be told by breaking off, and
/// what was asked behind it is not done.
#[test]
fn a_response_short_of_its_declared_length_breaks_the_connection() {
    let server = Server::of(|mut request| -> Rendered {
        note(request.path());
        if request.path() != "/short" {
            return "next".into();
        }
        drop(request.notify_finish().add_both(|result| {
            note(format!("complete: {}", result.is_ok()));
            Ok(())
        }));
        request.set_header(header::CONTENT_LENGTH, "6");
        request.write("abc");
        request.finish();
        NOT_DONE_YET
    });
    let mut client = server.connect();
    client.send("GET /short HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    let got = String::from_utf8(client.rest_or_reset()).unwrap();
    assert!(!got.contains("next"), "{got:?}");
    assert_eq!(server.left_notes(), ["/short", "complete: false"]);
    logged("finished 3 bytes short of its content-length");
}

/// A request moves into a callback, as in the first program of the plan.
#[test]
fn a_request_moves_into_a_callback() {
    let server = Server::with_site(|reactor| {
        let clock = reactor.clone();
        Site::new(leaf(move |request| {
            let delay = Duration::from_millis(10);
            let later = defer_later(&clock, delay, move || Ok(request));
            drop(later.add_callback(|mut request: Request| {
                request.write("Sorry to keep you waiting.");
                request.finish();
                Ok(())
            }));
            NOT_DONE_YET
        }))
    });
    let mut client = server.connect();
    for _ in 0..2 {
        client.get("/");
        assert_eq!(client.reply().text(), "Sorry to keep you waiting.");
    }
}

#[test]
fn a_request_dropped_unfinished_is_a_processing_failure() {
    let server = Server::of(|request| -> Rendered {
        match request.path() {
            "/at-once" => {
                drop(request);
                NOT_DONE_YET
            }
            _ => keep(request),
        }
    });
    let mut client = server.connect();
    client.get("/at-once");
    assert_eq!(client.reply().status, 500);
    logged("the request GET /at-once was dropped without being finished");

    client.get("/later");
    assert_eq!(server.next_note(), "/later");
    server.with_kept("/later", drop);
    assert_eq!(client.reply().status, 500);
    logged("the request GET /later was dropped without being finished");

    client.get("/fine");
    assert_eq!(server.next_note(), "/fine");
    server.with_kept("/fine", |request| request.respond("fine").is_ok());
    assert_eq!(client.reply().text(), "fine", "the connection went on");
}

#[test]
fn a_request_dropped_half_written_breaks_the_connection() {
    let server = Server::of(|mut request| {
        request.write("half");
        keep(request)
    });
    let mut client = server.connect();
    client.get("/half");
    client.head_reply();
    client.take(9);
    server.with_kept("/half", drop);
    assert_eq!(client.rest_or_reset(), b"", "no last chunk");
    logged("the request GET /half was dropped without being finished");
}

/// A failure in the callback that holds the request drops the request.
#[test]
fn a_panic_in_the_callback_that_holds_a_request_answers_it() {
    let server = Server::of(|request| {
        drop(Deferred::succeed(request).map(|_request| panic!("while holding a request")));
        NOT_DONE_YET
    });
    assert_eq!(server.get("/held").status, 500);
    logged("while holding a request");
    logged("the request GET /held was dropped");
}

/// Requests of two connections, finished in the other order, by one callback.
#[test]
fn requests_are_finished_in_any_order() {
    let server = Server::of(keep);
    let mut first = server.connect();
    let mut second = server.connect();
    first.get("/1");
    assert_eq!(server.next_note(), "/1");
    second.get("/2");
    assert_eq!(server.next_note(), "/2");
    second.get("/3");
    server.run(|_| {
        support::with_kept("/2", |request| request.respond("two").is_ok());
        support::with_kept("/1", |request| request.respond("one").is_ok());
    });
    assert_eq!(second.reply().text(), "two");
    assert_eq!(first.reply().text(), "one");
    assert_eq!(server.next_note(), "/3");
    server.with_kept("/3", |request| request.respond("three").is_ok());
    assert_eq!(second.reply().text(), "three");
}

/// What `render` returned answers, and a request that was kept all the same has had its turn.
#[test]
fn a_kept_request_whose_answer_was_returned_is_over() {
    let server = Server::of(|request| {
        keep(request);
        "returned"
    });
    let mut client = server.connect();
    client.get("/kept");
    assert_eq!(client.reply().text(), "returned");
    assert_eq!(server.next_note(), "/kept");
    client.get("/next");
    assert_eq!(client.reply().text(), "returned");
    assert_eq!(server.next_note(), "/next");
    server.with_kept("/kept", |mut request| {
        request.write("a second answer");
        assert!(request.finish().is_err());
    });
    client.get("/last");
    assert_eq!(client.reply().text(), "returned");
}

thread_local! {
    static PENDING: RefCell<Vec<Resolver<String>>> = const { RefCell::new(Vec::new()) };
}

/// A Deferred that nobody waits for any more is cancelled, so that its work stops.
#[test]
fn the_deferred_of_a_client_that_goes_away_is_cancelled() {
    let server = Server::of(|request| {
        let (deferred, resolver) = Deferred::<String>::with_canceller(|_| note("cancelled"));
        PENDING.with_borrow_mut(|pending| pending.push(resolver));
        let path = request.path().to_owned();
        note("pending");
        deferred.add_errback(move |failure| {
            note(format!("{path} {}", failure.is::<CancelledError>()));
            Err(failure)
        })
    });
    let mut client = server.connect();
    client.get("/gone");
    assert_eq!(server.next_note(), "pending");
    drop(client);
    assert_eq!(server.next_note(), "cancelled");
    assert_eq!(server.next_note(), "/gone true");
    server.run(|_| {
        let resolver = PENDING.with_borrow_mut(Vec::pop).unwrap();
        assert!(!resolver.is_pending());
    });
    assert_eq!(times_logged("/gone"), 0, "nothing went wrong");

    let mut stays = server.connect();
    stays.get("/stays");
    assert_eq!(server.next_note(), "pending");
    server.run(|_| {
        let resolver = PENDING.with_borrow_mut(Vec::pop).unwrap();
        resolver.callback("done".to_owned()).unwrap();
    });
    assert_eq!(stays.reply().text(), "done");
}

/// W-32. The client goes while much is on its way to it.
#[test]
fn a_client_that_goes_away_in_the_middle_of_a_response_is_noticed() {
    let big = |mut request: Request| {
        drop(request.notify_finish().add_both(|result| {
            note(format!("complete: {}", result.is_ok()));
            Ok(())
        }));
        request.write(vec![b'x'; 16 << 20]);
        keep(request)
    };
    // It is the client that ends this, and not the limit.
    let server = Server::with_site(move |_| Site::new(leaf(big)).max_unread_output_bytes(64 << 20));
    let mut client = server.connect();
    client.get("/big");
    client.take(100_000);
    assert_eq!(server.next_note(), "/big");
    drop(client);
    assert_eq!(server.next_note(), "complete: false");
    server.with_kept("/big", |mut request| {
        request.write("more");
        assert!(request.finish().is_err());
    });
}

/// W-25, and what else a request tells.
#[test]
fn a_request_tells_what_came() {
    let server = Server::of(|request| {
        format!(
            "{} {} {:?} {:?} {:?} {:?} {} {}",
            request.method(),
            request.target(),
            request.query(),
            request.args().collect::<Vec<_>>(),
            request.header("X-A"),
            request.headers().map(|(name, _)| name).collect::<Vec<_>>(),
            request.is_http_11(),
            request.client_address().is_some(),
        )
    });
    let mut client = server.connect();
    client.send("GET /a?b=1+2&b=%26&c HTTP/1.1\r\nHost: h\r\nx-a: 1\r\nX-A: 2\r\n\r\n");
    assert_eq!(
        client.reply().text(),
        "GET /a?b=1+2&b=%26&c Some(\"b=1+2&b=%26&c\") [(\"b\", \"1 2\"), (\"b\", \"&\"), \
         (\"c\", \"\")] Some(\"2\") [\"Host\", \"x-a\", \"X-A\"] true true"
    );
}

/// A request may be answered by its holder while a Deferred that was returned for it is pending;
/// when that one fires at last, it has nothing to do with the request that is answered by then.
#[test]
fn a_late_deferred_does_not_touch_the_request_that_came_after() {
    let server = Server::of(|request| {
        let (deferred, resolver) = Deferred::<String>::with_canceller(|_| note("cancelled"));
        PENDING.with_borrow_mut(|pending| pending.push(resolver));
        if request.path() == "/first" {
            keep(request);
        }
        note("pending");
        deferred
    });
    let mut client = server.connect();
    client.get("/first");
    assert_eq!(server.notes(2), ["/first", "pending"]);
    server.with_kept("/first", |request| request.respond("by its holder"));
    assert_eq!(client.reply().text(), "by its holder");

    client.get("/second");
    assert_eq!(server.next_note(), "pending");
    server.run(|_| {
        let late = PENDING.with_borrow_mut(|pending| pending.remove(0));
        late.callback("too late".to_owned()).unwrap();
    });
    drop(client);
    assert_eq!(server.next_note(), "cancelled");
}
