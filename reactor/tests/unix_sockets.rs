//! UNIX sockets: the files that name them, who may take which, and connections over them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod factories;
mod peers;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::net::{
    Address, CannotListenError, Port, UnixClientEndpoint, UnixServerEndpoint,
};
use deferred_reactor::{Failure, Reactor};
use socket2::{Domain, SockAddr, Socket, Type};

use factories::{Client, stop};
use peers::{HUGE, Script, Scripts, journal, kind, note, pattern, run, run_with_peer};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unix-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// How many files there are.
    fn count(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The file of a server that has died.
fn leave_dead(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(is_socket(path));
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(peers::LIMIT)).unwrap();
    stream.set_write_timeout(Some(peers::LIMIT)).unwrap();
    stream
}

fn read_all(mut peer: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

fn listen(reactor: &Reactor, path: &Path) -> Result<Port, CannotListenError> {
    let factory = Scripts::new(|| {
        Script::new().made(|transport| {
            transport.write(b"hello");
            transport.lose_connection();
            Ok(())
        })
    });
    reactor.listen_unix(path, factory)
}

///
#[test]
fn the_socket_file_has_the_mode_that_was_asked_for() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("mode"));
    for mode in [0o600, 0o666, 0o620] {
        let endpoint = UnixServerEndpoint::new(directory.path()).mode(mode);
        let port = reactor
            .listen_unix(endpoint, Scripts::new(Script::new))
            .unwrap();
        let file = fs::symlink_metadata(directory.path()).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
        drop(port.stop_listening());
    }
    // What every other program would leave, else.
    let port = listen(&reactor, &directory.path()).unwrap();
    let other = directory.0.join("other");
    let _other = UnixListener::bind(&other).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&directory.path()), mode(&other));
    drop(port.stop_listening());
}

///
#[test]
fn clients_connect_by_path_and_addresses_are_unix_addresses() {
    let (reactor, directory, told) = (
        Reactor::new().unwrap(),
        Directory::new("addresses"),
        journal(),
    );
    let path = directory.path();
    let (here, notes) = (Address::Unix(Some(path.clone())), told.clone());
    let (nobody, server_end) = (Address::Unix(None), here.clone());
    let factory = Scripts::for_peer(move |peer| {
        assert_eq!(*peer, Address::Unix(None));
        let (notes, here) = (notes.clone(), server_end.clone());
        Some(Script::echo().made(move |transport| {
            assert_eq!(transport.peer(), Some(Address::Unix(None)));
            assert_eq!(transport.host(), Some(here.clone()));
            note(&notes, "server");
            Ok(())
        }))
    });
    let port = reactor.listen_unix(&path, factory).unwrap();
    assert_eq!(*port.address(), here);
    assert_eq!((here.path(), here.port()), (Some(path.as_path()), None));
    assert_eq!(here.to_string(), format!("unix:{}", path.display()));
    assert_eq!(
        (nobody.to_string().as_str(), nobody.path()),
        ("unix:", None)
    );

    let (notes, client_end) = (told.clone(), here.clone());
    let client = Client::for_peer(move |peer| {
        assert_eq!(*peer, client_end);
        let (made, data, here) = (notes.clone(), notes.clone(), client_end.clone());
        let script = Script::new()
            .made(move |transport| {
                assert_eq!(transport.peer(), Some(here.clone()));
                assert_eq!(transport.host(), Some(Address::Unix(None)));
                transport.set_tcp_no_delay(true); // of no use, and no harm
                transport.write(b"ping");
                note(&made, "client");
                Ok(())
            })
            .data(move |transport, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                transport.lose_connection();
                Ok(())
            });
        Some(script)
    });
    let connector = reactor.connect_unix(&path, client.then_stop(&reactor));
    assert_eq!(connector.address(), here.to_string());
    run(&reactor);
    let mut told = told.take();
    told.sort();
    assert_eq!(told, ["client", "ping", "server"]);
}

/// and when it is not stopped by itself, its reactor does it, or is dropped.
#[test]
fn the_file_is_removed_when_the_port_is_closed() {
    let directory = Directory::new("removed");
    let path = directory.path();
    let reactor = Reactor::new().unwrap();
    let port = listen(&reactor, &path).unwrap();
    assert!(is_socket(&path));
    assert!(port.stop_listening().is_fired());
    assert_eq!(directory.count(), 0);

    listen(&reactor, &path).unwrap();
    let end = reactor.clone();
    reactor.call_when_running(move || stop(&end));
    run(&reactor);
    assert_eq!(directory.count(), 0);

    listen(&reactor, &path).unwrap();
    drop(reactor);
    assert_eq!(directory.count(), 0);
}

///
#[test]
fn stopping_leaves_connections_open_and_the_path_free() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("stopping"));
    let path = directory.path();
    let port = reactor
        .listen_unix(&path, Scripts::new(Script::echo))
        .unwrap();
    let (again, to_bind) = (reactor.clone(), path.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let bind_again = peers::lend(&reactor, move || {
        drop(port.stop_listening());
        tell.send(listen(&again, &to_bind).is_ok()).unwrap();
    });
    run_with_peer(&reactor, move || {
        let mut old = connect(&path);
        let mut byte = [0];
        old.write_all(b"1").unwrap();
        old.read_exact(&mut byte).unwrap();
        bind_again();
        assert_eq!(told.recv_timeout(peers::LIMIT), Ok(true));
        assert_eq!(read_all(connect(&path)), b"hello");
        old.write_all(b"2").unwrap();
        old.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"2");
    });
}

/// whether it is one of ours or not, and however busy it is.
#[test]
fn a_path_where_a_server_is_alive_cannot_be_listened_on() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("alive"));
    let path = directory.path();
    let refused = |what: &str| {
        let error = listen(&reactor, &path).unwrap_err();
        assert_eq!(error.cause.kind(), ErrorKind::AddrInUse, "{what}");
        assert_eq!(error.address, format!("unix:{}", path.display()));
        assert!(is_socket(&path), "{what}");
        assert_eq!(directory.count(), 1, "{what}");
    };
    let port = listen(&reactor, &path).unwrap();
    refused("ours");
    // The first has lost nothing but a moment.
    let peer = path.clone();
    let answer = run_with_peer(&reactor, move || read_all(connect(&peer)));
    assert_eq!(answer, b"hello");
    drop(port.stop_listening());

    let other = UnixListener::bind(&path).unwrap();
    refused("another");
    drop(other);
    fs::remove_file(&path).unwrap();

    let busy = Busy::new(&path);
    refused("busy");
    drop(busy);
}

/// the factory has nothing to do with it.
#[test]
fn a_factory_is_not_started_for_a_path_that_cannot_be_listened_on() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("factory"));
    let _alive = UnixListener::bind(directory.path()).unwrap();
    let factory = Scripts::new(Script::new)
        .start(|| unreachable!("started"))
        .stop(|| unreachable!("stopped"));
    let error = reactor.listen_unix(directory.path(), factory).unwrap_err();
    let text = format!("{:?}", Failure::from(error));
    assert!(text.starts_with("cannot listen on unix:/"), "{text}");
}

/// the other half of it. Twisted wants to be asked, and then goes by a lock file.
#[test]
fn the_file_of_a_dead_server_is_replaced() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("dead"));
    let path = directory.path();
    leave_dead(&path);
    listen(&reactor, &path).unwrap();
    assert_eq!(directory.count(), 1);
    let peer = path.clone();
    let answer = run_with_peer(&reactor, move || read_all(connect(&peer)));
    assert_eq!(answer, b"hello");
    assert_eq!(directory.count(), 0);
}

///
#[test]
fn what_is_no_socket_is_never_removed() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("others"));
    let path = directory.path();
    let refused = |kind: ErrorKind| {
        let error = listen(&reactor, &path).unwrap_err();
        assert_eq!(error.cause.kind(), kind, "{error:?}");
    };
    fs::write(&path, "precious").unwrap();
    refused(ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    refused(ErrorKind::AddrInUse);
    fs::remove_dir(&path).unwrap();

    // Also where there would be a dead one at the other end.
    let dead = directory.0.join("dead");
    leave_dead(&dead);
    symlink(&dead, &path).unwrap();
    refused(ErrorKind::AddrInUse);
    assert!(is_socket(&dead));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    fs::remove_file(&path).unwrap();

    let error = listen(&reactor, &directory.0.join("missing/socket")).unwrap_err();
    assert_eq!(error.cause.kind(), ErrorKind::NotFound);
    let error = listen(&reactor, &directory.0.join("x".repeat(200))).unwrap_err();
    assert_eq!(error.cause.kind(), ErrorKind::InvalidInput);
}

/// "only if it is still ours".
#[test]
fn the_file_of_another_server_is_not_removed() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("not-ours"));
    let path = directory.path();
    let port = listen(&reactor, &path).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(port.stop_listening());
    assert!(is_socket(&path));
    drop(other);
    fs::remove_file(&path).unwrap();

    let port = listen(&reactor, &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(port.stop_listening());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    // Already gone is fine.
    let port = listen(&reactor, &path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(port.stop_listening().result().is_ok());
}

/// were the file only looked at and then removed, one would remove that of the other.
#[test]
fn of_servers_that_start_at_the_same_time_exactly_one_gets_the_path() {
    let directory = Arc::new(Directory::new("race"));
    for round in 0..50 {
        if round % 2 == 0 {
            leave_dead(&directory.path());
        }
        let (start, end) = (Arc::new(Barrier::new(4)), Arc::new(Barrier::new(4)));
        let servers = [(); 4].map(|()| {
            let (directory, start, end) = (directory.clone(), start.clone(), end.clone());
            thread::spawn(move || {
                let reactor = Reactor::new().unwrap();
                start.wait();
                let port = listen(&reactor, &directory.path());
                end.wait();
                let is_mine = port.is_ok();
                if is_mine {
                    // Whoever has it is reached by it.
                    let path = directory.path();
                    let answer = run_with_peer(&reactor, move || read_all(connect(&path)));
                    assert_eq!(answer, b"hello");
                }
                is_mine
            })
        });
        let won = servers.map(|server| server.join().unwrap());
        let winners = won.iter().filter(|is_mine| **is_mine).count();
        assert_eq!(winners, 1, "round {round}");
        assert_eq!(directory.count(), 0, "round {round}");
    }
}

/// As with Twisted, on Linux.
#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_needs_no_file() {
    let reactor = Reactor::new().unwrap();
    let name = format!("\0deferred-reactor-{}", std::process::id());
    let endpoint = UnixServerEndpoint::new(&name).mode(0o600);
    let factory = Scripts::new(Script::echo);
    let port = reactor.listen_unix(endpoint, factory).unwrap();
    let shown = format!("unix:@{}", &name[1..]);
    assert_eq!(port.address().to_string(), shown);
    let error = listen(&reactor, Path::new(&name)).unwrap_err();
    assert_eq!(error.cause.kind(), ErrorKind::AddrInUse);
    let told = journal();
    let notes = told.clone();
    let client = Client::new(move || {
        let notes = notes.clone();
        Script::new()
            .made(|transport| {
                transport.write(b"x");
                Ok(())
            })
            .data(move |transport, _| {
                note(&notes, transport.peer().unwrap().to_string());
                transport.lose_connection();
                Ok(())
            })
    });
    reactor.connect_unix(&name, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(*told.borrow(), [shown]);
}

///
#[test]
fn a_path_without_a_server_is_an_error_for_clients() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("no-server"));
    let path = directory.path();
    let failure = || {
        let client = Client::none();
        let told = client.journal.clone();
        reactor.connect_unix(&path, client.then_stop(&reactor));
        run(&reactor);
        told.take()
    };
    let told =
        |why: &str| ["start", "connecting", &format!("failed: {why}"), "stop"].map(String::from);
    assert_eq!(failure(), told("cannot"));
    leave_dead(&path);
    assert_eq!(failure(), told("refused"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(failure(), told("refused"));

    let end = reactor.clone();
    let missing = UnixClientEndpoint::new(directory.0.join("missing"));
    let connected = reactor.connect_protocol(missing, Script::new()).map(drop);
    let connected = connected.add_both(move |result| {
        stop(&end);
        result
    });
    run(&reactor);
    let text = connected.result().unwrap_err().to_string();
    let want = format!("cannot connect to unix:{}/missing (", directory.0.display());
    assert!(text.starts_with(&want), "{text}");
    assert_eq!(text.matches("missing").count(), 1, "{text}");
}

/// A server that has as many waiting as it may.
struct Busy {
    socket: Socket,
    _waiting: Vec<UnixStream>,
}

impl Busy {
    fn new(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            match client.connect(&SockAddr::unix(path).unwrap()) {
                Ok(()) => waiting.push(std::os::fd::OwnedFd::from(client).into()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        Self {
            socket,
            _waiting: waiting,
        }
    }
}

/// the system refuses those, where TCP lets them wait.
#[cfg(target_os = "linux")]
#[test]
fn a_client_waits_for_a_server_that_is_busy() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("busy"));
    let path = directory.path();
    let busy = Rc::new(Busy::new(&path));
    let client = Client::new(|| {
        Script::new().made(|transport| {
            transport.lose_connection();
            Ok(())
        })
    });
    let told = client.journal.clone();
    reactor.connect_unix(&path, client.then_stop(&reactor));
    let (timers, server, notes) = (reactor.clone(), busy.clone(), told.clone());
    // Two turns later: it has been turned away by then.
    reactor.call_later(Duration::ZERO, move || {
        timers.call_later(Duration::ZERO, move || {
            note(&notes, "accept");
            server.socket.accept().unwrap();
        });
    });
    run(&reactor);
    let want = [
        "start",
        "connecting",
        "accept",
        "build",
        "lost: done",
        "stop",
    ];
    assert_eq!(*told.borrow(), want);
}

///
#[cfg(target_os = "linux")]
#[test]
fn waiting_for_a_busy_server_ends_with_the_limit_or_when_it_is_stopped() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("too-busy"));
    let _busy = Busy::new(&directory.path());
    let endpoint = UnixClientEndpoint::new(directory.path()).timeout(Duration::from_millis(30));
    let client = Client::none().then_stop(&reactor);
    let told = client.journal.clone();
    reactor.connect_unix(endpoint, client);
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["failed: timeout", "stop"]);

    let client = Client::none().then_stop(&reactor);
    let told = client.journal.clone();
    let connector = reactor.connect_unix(directory.path(), client);
    let timers = reactor.clone();
    reactor.call_later(Duration::ZERO, move || {
        timers.call_later(Duration::ZERO, move || connector.stop_connecting().unwrap());
    });
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["failed: user", "stop"]);
    assert!(reactor.delayed_calls().is_empty());
}

/// over the other kind of socket.
#[test]
fn large_writes_half_close_and_clean_ends_work_as_over_tcp() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("large"));
    let path = directory.path();
    let told = journal();
    let notes = told.clone();
    let factory = Scripts::new(move || {
        let notes = notes.clone();
        let mut received = Vec::new();
        Script::new()
            .data(move |transport, data| {
                received.extend_from_slice(data);
                if received == b"all of it" {
                    transport.write_bytes(Bytes::from(pattern(HUGE)));
                    transport.write(b"end");
                }
                Ok(())
            })
            .lost(move |reason| note(&notes, kind(reason)))
    });
    reactor.listen_unix(&path, factory).unwrap();
    let answer = run_with_peer(&reactor, move || {
        let mut peer = connect(&path);
        for byte in b"all of it" {
            peer.write_all(&[*byte]).unwrap();
        }
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(peer)
    });
    assert_eq!(answer.len(), HUGE + 3);
    assert!(answer[..HUGE] == pattern(HUGE)[..] && answer.ends_with(b"end"));
    assert_eq!(*told.borrow(), ["done"]);
}

/// what was queued is dropped; there are no resets here.
#[test]
fn aborting_drops_what_is_queued() {
    let (reactor, directory) = (Reactor::new().unwrap(), Directory::new("abort"));
    let path = directory.path();
    let told = journal();
    let notes = told.clone();
    let factory = Scripts::new(move || {
        let notes = notes.clone();
        Script::new()
            .made(|transport| {
                transport.write_bytes(Bytes::from(pattern(HUGE)));
                transport.abort_connection();
                Ok(())
            })
            .lost(move |reason| note(&notes, kind(reason)))
    });
    reactor.listen_unix(&path, factory).unwrap();
    let answer = run_with_peer(&reactor, move || read_all(connect(&path)));
    assert!(answer.is_empty());
    assert_eq!(*told.borrow(), ["aborted"]);
}
