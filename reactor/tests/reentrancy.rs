//! Any public call inside any callback.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::net::{
    Address, ClientFactory, Connector, DatagramProtocol, Factory, Port, Protocol, PullProducer,
    PushProducer, ReconnectingClientFactory, Transport, UdpTransport, for_protocol,
};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{
    Deferred, DeferredLock, DeferredQueue, DeferredSemaphore, Failure, LoopingCall, Phase, Reactor,
    SystemEvent, blocking_call_from_thread, defer_later, defer_to_thread, deferred_list,
    gather_results, maybe_deferred, on_unhandled, race, run_workers,
};

use peers::{Journal, Script, Scripts, connect, journal, kind, listen, note, run};

/// What callbacks get to work with.
#[derive(Clone)]
struct Scene {
    reactor: Reactor,
    transport: Rc<RefCell<Option<Transport>>>,
    port: Rc<RefCell<Option<Port>>>,
    /// Where it was called.
    places: Journal,
    act: Rc<dyn Fn(&Scene)>,
}

impl Scene {
    fn new(act: impl Fn(&Scene) + 'static) -> Self {
        Self {
            reactor: Reactor::new().unwrap(),
            transport: Rc::default(),
            port: Rc::default(),
            places: journal(),
            act: Rc::new(act),
        }
    }

    /// Does the thing, in the callback of this name.
    fn act(&self, place: &str) {
        note(&self.places, place);
        (self.act)(self);
    }

    fn transport(&self, call: impl FnOnce(&Transport)) {
        let transport = self.transport.borrow().clone();
        if let Some(transport) = transport {
            call(&transport);
        }
    }
}

/// Everything that leaves connections, ports and the reactor as they are.
fn use_everything(scene: &Scene) {
    let reactor = &scene.reactor;
    let call = reactor.call_later(Duration::from_secs(9), || unreachable!());
    call.reset(Duration::from_secs(5)).unwrap();
    call.delay(Duration::from_secs(5)).unwrap();
    assert!(call.time().is_some());
    assert!(!reactor.delayed_calls().is_empty());
    call.cancel().unwrap();
    reactor.call_later(Duration::ZERO, || {});
    // Whatever they end with, when the reactor stops for example.
    let later = defer_later(reactor, Duration::ZERO, || Ok(()));
    drop(later.add_errback(|_| Ok(())));
    let nap = deferred_reactor::sleep(reactor, Duration::ZERO);
    drop(
        nap.add_timeout(Duration::ZERO, reactor)
            .add_errback(|_| Ok(())),
    );

    reactor.remote().call_from_thread(|_| {}).unwrap();
    reactor.call_in_thread(|| {});
    drop(defer_to_thread(reactor, || Ok(())));
    reactor.suggest_thread_pool_size(3);

    let id = reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, || Ok(()));
    reactor.remove_system_event_trigger(id).unwrap();
    reactor.remove_system_event_trigger(id).unwrap_err();
    let here = reactor.clone();
    reactor.add_system_event_trigger(Phase::During, SystemEvent::Named("user"), move || {
        drop(here.fire_system_event("another"));
        Ok(())
    });
    assert!(reactor.fire_system_event("user").is_fired());
    reactor.call_when_running(|| {});

    assert!(reactor.run_without_signals().is_err());
    assert_eq!(reactor.exit_signal(), None);
    let (port, _) = listen(reactor, Scripts::new(Script::new));
    drop(format!(
        "{reactor:?} {port:?} {} {}",
        reactor.is_running(),
        port.address()
    ));
    assert!(port.stop_listening().is_fired());

    use_deferreds(reactor);
    use_clients_and_datagrams(reactor);
    scene.transport(|transport| {
        transport.pause_producing();
        transport.resume_producing();
        transport.set_tcp_no_delay(true);
        transport.write(b"a");
        transport.write_bytes(Bytes::from_static(&[b'b'; 20_000]));
        transport.write_with(|buffer| {
            buffer.push(b'd');
            transport.write_with(|inner| inner.push(b'c'));
            drop(format!("{transport:?} {}", transport.buffered()));
        });
        assert_eq!(transport.peer().is_some(), transport.is_connected());
        assert_eq!(
            transport.host().is_some(),
            transport.time_source().is_some()
        );
    });
}

/// What stands around Deferreds, with and without a reactor.
fn use_deferreds(reactor: &Reactor) {
    assert!(reactor.run_until(Deferred::succeed(())).is_err());
    assert!(reactor.run_for(Duration::ZERO).is_err());
    assert!(reactor.turn_once(Duration::ZERO).is_err());
    assert!(reactor.thread_pool_stats().size > 0);

    let answers = [1, 2].map(Deferred::succeed);
    let list = deferred_list(answers).consume_errors().fire_on_all();
    assert!(list.is_fired());
    let sum = gather_results([maybe_deferred(|| Ok(1)), Deferred::succeed(2)]);
    assert_eq!(sum.result().unwrap(), [1, 2]);
    let (slow, slow_resolver) = Deferred::pending();
    assert_eq!(race([slow, Deferred::succeed(2)]).result().unwrap(), (1, 2));
    slow_resolver.callback(3).unwrap();
    let (copy, target) = Deferred::pending();
    assert!(Deferred::succeed(7).chain_deferred(target).is_fired());
    let mut copy = copy;
    let pauser = copy.pauser();
    pauser.pause();
    let copy = copy.map(|n| n + 1);
    pauser.unpause();
    assert_eq!(copy.result().unwrap(), 8);

    let lock = DeferredLock::new();
    let permit = lock.acquire().result().unwrap();
    let (second, third) = (lock.run(|| Ok(())), lock.acquire());
    third.cancel();
    assert!(third.add_errback(Err).result().is_err());
    permit.release();
    assert!(second.is_fired());
    let two = DeferredSemaphore::new(NonZeroUsize::MIN);
    assert!(two.run(|| Deferred::succeed(())).is_fired());
    let queue = DeferredQueue::new().with_size(1);
    let got = queue.get().unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    queue.put(3).unwrap_err();
    assert_eq!(got.result().unwrap(), 1);

    // In a block that is being polled, this is another block.
    let (awaited, resolver) = Deferred::pending();
    let block = deferred_reactor::deferred::spawn(async move { Ok(awaited.await? + 1) });
    resolver.callback(1).unwrap();
    assert_eq!(block.result().unwrap(), 2);
    let (never, _resolver) = Deferred::<()>::pending();
    let block = reactor.spawn(async move {
        let _ = never.await;
        Ok(())
    });
    block.cancel();
    assert!(block.is_fired());

    let looping = LoopingCall::new(reactor, || Ok(()));
    let ended = looping.start(Duration::from_secs(9)).unwrap();
    looping.start(Duration::from_secs(9)).unwrap_err();
    looping.reset().unwrap();
    assert!(looping.is_running() && looping.interval().is_some());
    looping.stop().unwrap();
    assert!(ended.is_fired());
    drop(looping.start_later(Duration::from_secs(9)).unwrap());
    looping.stop().unwrap();

    let (fired, resolver) = Deferred::pending();
    drop(fired.add_errback(|_| Ok(())));
    resolver.into_remote(reactor).callback(()).unwrap();
    let refused = blocking_call_from_thread(&reactor.remote(), |_| Ok(()));
    assert!(refused.is_err());

    // Another reactor is another reactor.
    let other = Reactor::new().unwrap();
    other.turn_once(Duration::ZERO).unwrap();
    drop(other.call_later(Duration::from_secs(9), || {}));
    let memory = MemoryReactor::new();
    memory.advance(Duration::from_secs(1));
    assert_eq!(memory.elapsed(), Duration::from_secs(1));
}

struct Silent;

impl Protocol for Silent {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

impl DatagramProtocol for Silent {
    fn datagram_received(
        &mut self,
        _: &UdpTransport,
        _: &[u8],
        _: SocketAddr,
    ) -> Result<(), Failure> {
        Ok(())
    }
}

fn use_clients_and_datagrams(reactor: &Reactor) {
    let here = "127.0.0.1:0";
    let port = reactor.listen_udp(here, Silent).unwrap();
    let transport = port.transport();
    transport.send_to(b"x", port.address()).unwrap();
    transport.connect(port.address()).unwrap();
    transport.write(b"y").unwrap();
    transport.set_broadcast(true).unwrap();
    drop(format!("{port:?} {transport:?} {:?}", port.stats()));
    assert!(port.stop_listening().is_fired());

    install_resolver(reactor);
    let connector = reactor.connect_tcp("name:1", Quiet(Silent));
    connector.connect().unwrap_err();
    drop(format!("{connector:?} {:?}", connector.transport()));
    connector.stop_connecting().unwrap();
    connector.disconnect();
    let factory = ReconnectingClientFactory::new(Quiet(Silent));
    let reconnection = factory.reconnection().clone();
    drop(reactor.connect_tcp("127.0.0.1:1", factory));
    reconnection.reset_delay();
    reconnection.stop_trying();
    let connected = reactor.connect_protocol("127.0.0.1:1", Silent);
    connected.cancel();
    drop(connected.add_both(|_| Ok(())));
    #[cfg(unix)]
    reactor
        .connect_unix("/nonexistent", Quiet(Silent))
        .disconnect();
}

fn install_resolver(reactor: &Reactor) {
    reactor.install_name_resolver(|_, port| {
        if let Some(scene) = HERE.with_borrow(Clone::clone) {
            scene.act_once("a name resolver");
        }
        Deferred::succeed(vec![([127, 0, 0, 1], port).into()])
    });
}

/// Makes no protocol, and says nothing of failures.
struct Quiet<P>(P);

impl<P: 'static> Factory for Quiet<P> {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        None
    }
}

impl<P: 'static> ClientFactory for Quiet<P> {
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {}
}

/// Runs a server and a peer through all there is, and acts in every callback.
fn play(scene: &Scene) {
    let reactor = &scene.reactor;
    let (build, begin, end) = (scene.clone(), scene.clone(), scene.clone());
    let factory = Scripts::new(move || {
        build.act("build_protocol");
        let (made, data, read_lost) = (build.clone(), build.clone(), build.clone());
        let (drained, lost) = (build.clone(), build.clone());
        Script::new()
            .made(move |transport| {
                *made.transport.borrow_mut() = Some(transport.clone());
                // More than 64 KiB, so that it is told when that is sent.
                transport.write(&[b'h'; 70_000]);
                made.act("connection_made");
                Ok(())
            })
            .data(move |_, _| {
                data.act("data_received");
                Ok(())
            })
            .read_lost(move |transport| {
                read_lost.act("read_connection_lost");
                transport.lose_connection();
            })
            .drained(move |_| {
                if !drained.places.borrow().iter().any(|p| p == "write_drained") {
                    drained.act("write_drained");
                }
            })
            .lost(move |reason| {
                lost.act("connection_lost");
                note(&lost.places, kind(reason));
            })
    })
    .start(move || begin.act("start_factory"))
    .stop(move || end.act("stop_factory"));

    for (event, name) in [
        (SystemEvent::Startup, "start"),
        (SystemEvent::Shutdown, "end"),
    ] {
        for phase in [Phase::Before, Phase::During, Phase::After] {
            let scene = scene.clone();
            reactor.add_system_event_trigger(phase, event, move || {
                scene.act(&format!("{phase:?} {name}"));
                Ok(())
            });
        }
    }
    let when_running = scene.clone();
    reactor.call_when_running(move || {
        when_running.act("call_when_running");
        when_running.reactor.call_later(Duration::ZERO, {
            let scene = when_running.clone();
            move || scene.act("call_later")
        });
        let scene = when_running.clone();
        let job = defer_to_thread(&when_running.reactor, || Ok(()));
        drop(job.map(move |()| scene.act("a job's callback")));
    });
    let from_thread = scene.clone();
    peers::lend(reactor, move || from_thread.act("call_from_thread"))();
    let cancelled = scene.clone();
    let (deferred, _resolver) =
        Deferred::<()>::with_canceller(move |_| cancelled.act("a canceller"));
    let canceller = deferred.canceller();
    drop(deferred.add_errback(|_| Ok(())));
    reactor.call_later(Duration::ZERO, move || canceller.cancel());
    let dropped = OnDrop(scene.clone());
    reactor.call_later(Duration::from_secs(99), move || drop(dropped));

    // The factory is started inside of this, so nobody must hold a borrow of the scene.
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = peers::address_of(&port);
    *scene.port.borrow_mut() = Some(port);
    let remote = reactor.remote();
    let peer = std::thread::spawn(move || {
        // The port may be closed before.
        if let Ok(mut peer) = std::net::TcpStream::connect(address) {
            peer.set_read_timeout(Some(peers::LIMIT)).unwrap();
            // Speaks first: a port that is closed in the middle of a handshake may leave a peer that
            // only listens without a word.
            let _ = peer.write_all(b"data");
            let _ = peer.read_exact(&mut [0; 5]);
            let _ = peer.shutdown(Shutdown::Write);
            let _ = peer.read_to_end(&mut Vec::new());
        }
        // It may have been stopped before.
        let _ = remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
    });
    run(reactor);
    peer.join().unwrap();
    scene.port.take();
    scene.transport.take();
}

/// What a delayed call has captured.
struct OnDrop(Scene);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.act("a drop");
    }
}

/// B-16.
#[test]
fn everything_can_be_used_in_every_callback() {
    let scene = Scene::new(|scene| {
        if scene.places.borrow().len() == 1 {
            // It does not run while its factory is started, so it would run here.
            return;
        }
        use_everything(scene);
    });
    play(&scene);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    let places = scene.places.take();
    for place in [
        "start_factory",
        "Before start",
        "During start",
        "After start",
        "call_when_running",
        "call_later",
        "call_from_thread",
        "a job's callback",
        "a canceller",
        "build_protocol",
        "connection_made",
        "data_received",
        "write_drained",
        "read_connection_lost",
        "connection_lost",
        "Before end",
        "During end",
        "After end",
        "stop_factory",
        "a drop",
    ] {
        assert!(
            places.iter().any(|p| p == place),
            "{place} is missing in {places:?}"
        );
    }
}

/// Everything that ends something, in each callback in turn: the run returns, nothing panics, and
/// whoever was connected has been told once.
fn end_in_every_callback(end: fn(&Scene)) {
    for place in [
        "start_factory",
        "After start",
        "call_when_running",
        "call_later",
        "call_from_thread",
        "a job's callback",
        "a canceller",
        "build_protocol",
        "connection_made",
        "data_received",
        "write_drained",
        "read_connection_lost",
        "connection_lost",
        "Before end",
        "During end",
        "After end",
        "stop_factory",
        "a drop",
    ] {
        let scene = Scene::new(move |scene| {
            let is_here = scene.places.borrow().last().is_some_and(|p| p == place);
            if is_here {
                end(scene);
            }
        });
        play(&scene);
        assert_eq!(peers::errors_logged_here(), Vec::<String>::new(), "{place}");
        let places = scene.places.take();
        let count = |name| places.iter().filter(|p| *p == name).count();
        assert_eq!(
            count("connection_made"),
            count("connection_lost"),
            "{place}"
        );
        assert_eq!(count("stop_factory"), 1, "{place}");
        assert_eq!(count("After end"), 1, "{place}");
    }
}

/// B-16.
#[test]
fn a_connection_can_be_closed_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::lose_connection));
}

/// B-16.
#[test]
fn a_connection_can_be_half_closed_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::lose_write_connection));
}

/// B-16.
#[test]
fn a_connection_can_be_aborted_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::abort_connection));
}

/// B-16.
#[test]
fn a_port_can_be_closed_in_every_callback() {
    end_in_every_callback(|scene| {
        let port = scene.port.borrow().clone();
        if let Some(port) = port {
            assert!(port.stop_listening().is_fired());
        }
    });
}

/// B-16.
#[test]
fn a_reactor_can_be_stopped_in_every_callback() {
    end_in_every_callback(|scene| {
        let _ = scene.reactor.stop();
    });
}

/// B-16.
#[test]
fn all_can_be_closed_at_once_in_every_callback() {
    end_in_every_callback(|scene| {
        let port = scene.port.borrow().clone();
        drop(port.map(|port| port.stop_listening()));
        let _ = scene.reactor.stop();
        scene.transport(|transport| {
            transport.write(b"last");
            transport.lose_connection();
            transport.abort_connection();
            transport.write(b"too late");
        });
    });
}

/// B-16: a connection closes others, and is not the one that is told.
#[test]
fn a_protocol_can_close_all_connections() {
    let (reactor, ends) = (Reactor::new().unwrap(), journal());
    let (all, seen) = (Rc::new(RefCell::new(Vec::<Transport>::new())), ends.clone());
    let factory = Scripts::new(move || {
        let (made, data, lost) = (all.clone(), all.clone(), seen.clone());
        Script::new()
            .made(move |transport| {
                made.borrow_mut().push(transport.clone());
                transport.write(b"?");
                Ok(())
            })
            .data(move |_, _| {
                data.borrow().iter().for_each(Transport::lose_connection);
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    peers::run_with_peer(&reactor, move || {
        let mut all: Vec<_> = (0..10).map(|_| connect(address)).collect();
        for peer in &mut all {
            peers::read_exactly(peer, 1);
        }
        all[3].write_all(b"x").unwrap();
        for peer in &mut all {
            assert_eq!(peers::read_all(peer), b"");
        }
    });
    assert_eq!(*ends.borrow(), ["done"; 10]);
}

impl Scene {
    /// Does the thing the first time.
    fn act_once(&self, place: &str) {
        let was_here = self.places.borrow().iter().any(|p| p == place);
        if !was_here {
            self.act(place);
        }
    }
}

/// Where [`play_more`] acts.
const MORE_PLACES: [&str; 40] = [
    "start_protocol",
    "datagram_received",
    "connection_refused",
    "stop_protocol",
    "client start_factory",
    "started_connecting",
    "a name resolver",
    "client build_protocol",
    "client connection_made",
    "client data_received",
    "client write_connection_lost",
    "client connection_lost",
    "client_connection_lost",
    "client_connection_failed",
    "client stop_factory",
    "connect_protocol",
    "connect_protocol, refused",
    "pause_producing",
    "resume_producing",
    "holds_open",
    "stop_producing",
    "a pull producer",
    "a pull producer, stopped",
    "a looping call",
    "a looping call's end",
    "a block",
    "a block, later",
    "a block, woken by a thread",
    "a block, cancelled",
    "a blocking call",
    "a remote resolver",
    "a lock's function",
    "a permit",
    "a get",
    "a list",
    "a race's loser",
    "a timeout's function",
    "on_unhandled",
    "write_with",
    "a named event",
];

thread_local! {
    static HERE: RefCell<Option<Scene>> = const { RefCell::new(None) };
    static THREAD: RefCell<Option<std::thread::JoinHandle<()>>> = const { RefCell::new(None) };
}

/// For what has to be `Send`, and is called on this thread nonetheless.
fn act_here(place: &str) {
    let scene = HERE.with_borrow(Clone::clone);
    scene.unwrap().act(place);
}

/// Acts in every callback of what [`play`] leaves out.
fn play_more(scene: &Scene) {
    let reactor = &scene.reactor;
    HERE.set(Some(scene.clone()));
    let begin = scene.clone();
    reactor.call_when_running(move || {
        play_deferreds(&begin);
        play_datagrams(&begin);
        play_clients(&begin);
        wait_for_all(&begin);
    });
    run(reactor);
    // There is none if it was stopped before.
    if let Some(thread) = THREAD.take() {
        thread.join().unwrap();
    }
    HERE.take();
    on_unhandled(|_| {});
    scene.transport.take();
    scene.port.take();
}

/// Stops when everything has been played, or somebody else has stopped.
fn wait_for_all(scene: &Scene) {
    let is_over = {
        let places = scene.places.borrow();
        MORE_PLACES.iter().all(|place| {
            // That comes with the end.
            *place == "stop_protocol" || places.iter().any(|p| p == place)
        })
    };
    if is_over {
        let _ = scene.reactor.stop();
        return;
    }
    let again = scene.clone();
    let wait = Duration::from_millis(1);
    scene.reactor.call_later(wait, move || wait_for_all(&again));
}

fn play_deferreds(scene: &Scene) {
    let reactor = &scene.reactor;
    let act = |place: &'static str| {
        let scene = scene.clone();
        move || scene.act(place)
    };

    let (begin, acts) = (act("a looping call's end"), act("a looping call"));
    let acts = Cell::new(Some(acts));
    let looping = LoopingCall::with_handle(reactor, move |looping, _| {
        if let Some(act) = acts.take() {
            act();
        } else {
            looping.stop()?;
        }
        Ok(())
    });
    let ended = looping.start(Duration::from_millis(1)).unwrap();
    drop(ended.add_both(move |_| {
        begin();
        Ok(())
    }));

    let (first, later, clock) = (act("a block"), act("a block, later"), reactor.clone());
    drop(reactor.spawn(async move {
        first();
        let _ = deferred_reactor::sleep(&clock, Duration::ZERO).await;
        later();
        Ok(())
    }));
    let (sender, receiver) = futures_channel::oneshot::channel::<()>();
    let woken = act("a block, woken by a thread");
    let block = reactor.spawn(async move {
        let _ = receiver.await;
        woken();
        Ok(())
    });
    drop(block.add_errback(|_| Ok(())));
    let (never, resolver) = Deferred::<()>::pending();
    let cancelled = act("a block, cancelled");
    let block = reactor.spawn(async move {
        let _ = never.await;
        cancelled();
        Ok(())
    });
    let block = block.add_errback(|_| Ok(())); // it may be abandoned at the end
    reactor.call_later(Duration::from_secs(99), move || drop(resolver));
    let canceller = block.canceller();
    reactor.call_later(Duration::ZERO, move || canceller.cancel());

    let (fired, resolver) = Deferred::<()>::pending();
    let acts = act("a remote resolver");
    drop(fired.add_both(move |_| {
        acts();
        Ok(())
    }));
    let (resolver, remote) = (resolver.into_remote(reactor), reactor.remote());
    let thread = std::thread::spawn(move || {
        let _ = sender.send(());
        let _ = resolver.callback(());
        let _ = blocking_call_from_thread(&remote, |_| {
            act_here("a blocking call");
            Ok(())
        });
    });
    THREAD.set(Some(thread));

    let lock = DeferredLock::new();
    let permit = lock.acquire().result().unwrap();
    let acts = act("a lock's function");
    let ran = lock.run(move || {
        acts();
        Ok(())
    });
    drop(ran.add_errback(|_| Ok(())));
    let acts = act("a permit");
    drop(lock.acquire().map(move |_permit| acts()));
    reactor.call_later(Duration::ZERO, move || permit.release());
    let queue = DeferredQueue::new();
    let acts = act("a get");
    drop(queue.get().unwrap().map(move |()| acts()));
    reactor.call_later(Duration::ZERO, move || queue.put(()).unwrap());

    let (one, fire_one) = Deferred::<()>::pending();
    let acts = act("a list");
    drop(gather_results([one]).add_both(move |_| {
        acts();
        Ok(())
    }));
    let acts = act("a race's loser");
    let (loser, loses) = Deferred::with_canceller(move |_| acts());
    reactor.call_later(Duration::from_secs(99), move || drop(loses));
    drop(race([loser, one_later(reactor)]).add_errback(|_| Ok((0, ()))));
    reactor.call_later(Duration::ZERO, move || fire_one.callback(()).unwrap());
    let (never, resolver) = Deferred::<()>::pending();
    let acts = act("a timeout's function");
    let timed = never.add_timeout_with(Duration::ZERO, reactor, move |_, _| {
        acts();
        Ok(())
    });
    reactor.call_later(Duration::from_secs(99), move || drop(resolver));
    drop(timed.add_errback(|_| Ok(())));
    let hook = scene.clone();
    on_unhandled(move |_| hook.act_once("on_unhandled"));
    reactor.call_later(Duration::ZERO, || {
        drop(Deferred::<()>::fail(Failure::message("nobody's")));
    });
    let acts = act("a named event");
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Named("more"), move || {
        acts();
        Ok(())
    });
    drop(reactor.fire_system_event("more"));
}

fn one_later(reactor: &Reactor) -> Deferred<()> {
    defer_later(reactor, Duration::ZERO, || Ok(()))
}

struct Datagrams(Scene);

impl DatagramProtocol for Datagrams {
    fn start_protocol(&mut self, transport: &UdpTransport) {
        self.0.act_once("start_protocol");
        // The system may drop datagrams, even here.
        let (again, to) = (transport.clone(), transport.host());
        if let Some(to) = to {
            let _ = again.send_to(b"x", &to);
        }
    }
    fn datagram_received(
        &mut self,
        _: &UdpTransport,
        _: &[u8],
        _: SocketAddr,
    ) -> Result<(), Failure> {
        self.0.act_once("datagram_received");
        Ok(())
    }
    fn connection_refused(&mut self, _: &UdpTransport) {
        self.0.act_once("connection_refused");
    }
    fn stop_protocol(&mut self) {
        self.0.act_once("stop_protocol");
    }
}

fn play_datagrams(scene: &Scene) {
    let reactor = &scene.reactor;
    let here = "127.0.0.1:0";
    reactor.listen_udp(here, Datagrams(scene.clone())).unwrap();
    let nobody = {
        let socket = std::net::UdpSocket::bind(here).unwrap();
        socket.local_addr().unwrap()
    };
    let refused = reactor.listen_udp(here, Datagrams(scene.clone())).unwrap();
    // It may have been stopped by the protocol.
    if refused.transport().connect(nobody).is_ok() {
        refused.transport().write(b"?").unwrap();
    }
}

/// The server of [`play_clients`]: makes producers of either kind do all they can.
struct Producing(Scene);

struct Producer(Scene, Transport);

impl PushProducer for Producer {
    fn pause_producing(&self) {
        self.0.act_once("pause_producing");
    }
    fn resume_producing(&self) {
        self.0.act_once("resume_producing");
        self.1.lose_connection(); // asks whether it is held open
    }
    fn stop_producing(&self) {
        self.0.act_once("stop_producing");
    }
    fn holds_open(&self) -> bool {
        self.0.act_once("holds_open");
        let (scene, transport) = (self.0.clone(), self.1.clone());
        self.0.reactor.call_later(Duration::ZERO, move || {
            transport.unregister_producer();
            let _ = transport.register_pull_producer(Pulled(scene));
            transport.abort_connection();
        });
        true
    }
}

struct Pulled(Scene);

impl PullProducer for Pulled {
    fn resume_producing(&self) {
        self.0.act_once("a pull producer");
    }
    fn stop_producing(&self) {
        self.0.act_once("a pull producer, stopped");
    }
}

impl Protocol for Producing {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        *self.0.transport.borrow_mut() = Some(transport.clone());
        transport.set_buffer_limit(10);
        transport.write_with(|_| self.0.act_once("write_with"));
        transport.register_producer(Producer(self.0.clone(), transport.clone()))?;
        transport.write(b"more than ten bytes");
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Its push producer is stopped in the middle.
struct Aborting(Scene);

impl Protocol for Aborting {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let producer = Producer(self.0.clone(), transport.clone());
        transport.register_producer(producer)?;
        transport.abort_connection();
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Speaks first, and leaves with its peer.
struct Greets;

impl Protocol for Greets {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        transport.write(b"x");
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

struct Client(Scene);

impl Factory for Client {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.0.act_once("client build_protocol");
        Some(Box::new(Client(self.0.clone())))
    }
    fn start_factory(&self) {
        self.0.act_once("client start_factory");
    }
    fn stop_factory(&self) {
        self.0.act_once("client stop_factory");
    }
}

impl ClientFactory for Client {
    fn started_connecting(&self, _: &Connector) {
        self.0.act_once("started_connecting");
    }
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {
        self.0.act_once("client_connection_failed");
    }
    fn client_connection_lost(&self, _: &Connector, _: &Failure) {
        self.0.act_once("client_connection_lost");
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, _: &Transport) -> Result<(), Failure> {
        self.0.act_once("client connection_made");
        Ok(())
    }
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result<(), Failure> {
        self.0.act_once("client data_received");
        transport.lose_write_connection();
        Ok(())
    }
    fn write_connection_lost(&mut self, _: &Transport) {
        self.0.act_once("client write_connection_lost");
    }
    fn connection_lost(&mut self, _: &Failure) {
        self.0.act_once("client connection_lost");
    }
}

fn play_clients(scene: &Scene) {
    let reactor = &scene.reactor;
    let here = "127.0.0.1:0";
    let server = scene.clone();
    let factory = for_protocol(move || Producing(server.clone()));
    let producing = reactor.listen_tcp(here, factory).unwrap();
    let server = scene.clone();
    let factory = for_protocol(move || Aborting(server.clone()));
    let aborting = reactor.listen_tcp(here, factory).unwrap();
    let nobody = {
        let listener = std::net::TcpListener::bind(here).unwrap();
        listener.local_addr().unwrap()
    };
    install_resolver(reactor);
    let address = peers::address_of(&producing);
    reactor.connect_tcp(("name", address.port()), Client(scene.clone()));
    reactor.connect_tcp(peers::address_of(&aborting), Client(scene.clone()));
    let greeting = reactor.listen_tcp(here, for_protocol(|| Greets)).unwrap();
    reactor.connect_tcp(peers::address_of(&greeting), Client(scene.clone()));
    reactor.connect_tcp(nobody, Client(scene.clone()));
    for (address, place) in [
        (address, "connect_protocol"),
        (nobody, "connect_protocol, refused"),
    ] {
        let scene = scene.clone();
        let connected = reactor.connect_protocol(address, Silent);
        drop(connected.add_both(move |_| {
            scene.act_once(place);
            Ok(())
        }));
    }
}

/// B-16: the callbacks of datagrams, clients, producers, blocks, locks and the rest.
#[test]
fn everything_can_be_used_in_every_other_callback() {
    let scene = Scene::new(use_everything);
    play_more(&scene);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    let places = scene.places.take();
    for place in MORE_PLACES {
        assert!(
            places.iter().any(|p| p == place),
            "{place} is missing in {places:?}"
        );
    }
}

/// B-16, R-15: and it can be run again.
#[test]
fn a_reactor_can_be_stopped_in_every_other_callback() {
    for place in MORE_PLACES {
        let scene = Scene::new(move |scene| {
            let is_here = scene.places.borrow().last().is_some_and(|p| p == place);
            if is_here {
                let _ = scene.reactor.stop();
            }
        });
        play_more(&scene);
        let again = one_later(&scene.reactor);
        scene.reactor.run_until(again).unwrap();
        assert_eq!(peers::errors_logged_here(), Vec::<String>::new(), "{place}");
        assert!(scene.reactor.delayed_calls().is_empty(), "{place}");
        let owners = Rc::strong_count(&scene.act);
        assert_eq!(owners, 1, "{place}: something of the run is still there");
        let places = scene.places.take();
        assert!(places.iter().any(|p| p == place), "{place}: {places:?}");
    }
}

/// B-16, B-14.
#[test]
fn everything_can_be_used_where_workers_are_set_up() {
    let done = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Arc::new(done);
    let count = done.clone();
    run_workers(2, move |reactor, worker| {
        let count = count.clone();
        let port = worker.listen_tcp("127.0.0.1:0", for_protocol(|| Silent))?;
        drop(format!("{worker:?} {port:?}"));
        let here = reactor.clone();
        reactor.call_when_running(move || {
            let scene = Scene {
                reactor: here.clone(),
                transport: Rc::default(),
                port: Rc::default(),
                places: journal(),
                act: Rc::new(use_everything),
            };
            scene.act("a worker");
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let _ = here.stop();
        });
        Ok(())
    })
    .unwrap();
    assert_ne!(done.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// Writes to a transport when its bytes have gone.
struct Sent(Transport, Rc<Cell<u32>>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        drop(format!("{:?} {}", self.0, self.0.buffered()));
        self.0.write(b"!");
    }
}

/// B-16: shared bytes are dropped where they have been sent or copied, or cannot be sent any more.
#[test]
fn bytes_may_use_the_transport_when_they_are_dropped() {
    // `Bytes` wants owners that can be sent to other threads, which nothing of a
    // reactor can. So the owner leaves a number, and this thread knows what it stands for.
    thread_local!(static OWNED: RefCell<Vec<Option<Sent>>> = const { RefCell::new(Vec::new()) });
    struct Owner(usize, Vec<u8>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            drop(OWNED.with_borrow_mut(|all| all[self.0].take()));
        }
    }
    let count = Rc::new(Cell::new(0));
    let bytes = |transport: &Transport, length: usize| {
        let sent = Sent(transport.clone(), count.clone());
        let index = OWNED.with_borrow_mut(|all| {
            all.push(Some(sent));
            all.len() - 1
        });
        Bytes::from_owner(Owner(index, vec![b'x'; length]))
    };
    let memory = MemoryReactor::new();
    let peer = memory.connect(Silent);
    memory.pump();
    let transport = peer.transport().unwrap();
    transport.write_bytes(bytes(&transport, 3));
    assert_eq!(count.get(), 1);
    memory.pump();
    assert_eq!(peer.received(), b"xxx!");

    transport.set_buffer_limit(10);
    transport.write_bytes(bytes(&transport, 50_000));
    memory.pump();
    assert_eq!(count.get(), 2);
    let received = peer.received();
    assert_eq!((received.len(), received.last()), (50_001, Some(&b'!')));

    for length in [3, 50_000] {
        transport.write_bytes(bytes(&transport, length));
    }
    peer.block_writes(50_000);
    memory.stop().unwrap();
    memory.pump();
    assert_eq!(count.get(), 4);
    assert!(peer.is_closed());
}
