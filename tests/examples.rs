//! Each example runs as a process of its own and does what its first lines say.

mod programs;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use programs::Example;

#[test]
fn metrics_exposes_what_it_counts() {
    let example = Example::start("metrics");
    let page = example.get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("# TYPE uptime_ticks_total counter"), "{page}");
    assert!(example.get("/").starts_with("HTTP/1.1 404"));
}

#[test]
fn klein_counts_inbound_requests() {
    let example = Example::start("klein");
    for count in 1..=3 {
        let page = example.get("/metrics");
        let want =
            format!("inbound_requests_total{{endpoint=\"/metrics\",method=\"GET\"}} {count}\n");
        assert!(page.ends_with(&want), "{page}");
    }
    assert!(example.get("/other").starts_with("HTTP/1.1 404"));
}

/// P-03: what is timed is the wait and the callback that answers.
#[test]
fn delayed_answers_after_five_seconds_and_was_timed() {
    let example = Example::start("delayed");
    let page = example.get("/");
    assert!(page.contains("Sorry to keep you waiting."), "{page}");
    let metrics = example.get("/metrics");
    assert!(metrics.contains("req_time_seconds_count 1\n"), "{metrics}");
    let sum: f64 = metrics
        .lines()
        .find_map(|line| line.strip_prefix("req_time_seconds_sum "))
        .and_then(|value| value.parse().ok())
        .expect("a sum");
    assert!(sum >= 5.0, "{sum}");
}

#[test]
fn embedded_counts_lines_and_ends_with_them() {
    let mut example = Example::start("embedded");
    let mut stdin = example.stdin.take().expect("it is piped");
    // A write that is not yet counted when the page is asked for is counted a little later; each
    // line is answered by nothing else, so ask until it shows.
    stdin.write_all(b"one\ntwo\n").unwrap();
    while !example.get("/metrics").contains("jobs_total 2\n") {}
    assert!(example.get("/").contains("href=\"/metrics\""));
    drop(stdin);
    assert_eq!(example.wait(), Some(0));
}

/// What the first lines of an example say that it prints.
fn promised(name: &str) -> String {
    let source = format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(source).unwrap();
    let block = source
        .lines()
        .map(|line| line.trim_start_matches("//!").trim_start());
    let block = block.skip_while(|line| *line != "```text").skip(2);
    block
        .take_while(|line| *line != "```")
        .map(|line| format!("{line}\n"))
        .collect()
}

/// T-06, T-11, T-30: and D-64, D-67 in the second, where a timeout cancels a block.
#[test]
fn looping_and_awaiting_print_what_they_say_and_end_by_themselves() {
    for example in ["looping", "awaiting"] {
        let output = Example::run(example, &[]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), promised(example));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// R-21.
#[test]
fn threads_counts_the_lines_of_files_and_ends() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let lines = include_str!("../Cargo.toml").lines().count();
    let output = Example::run("threads", &[manifest, "no such file"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut files, end) = text.trim_end().rsplit_once('\n').expect("three lines");
    // They come as they are ready.
    if let Some((second, first)) = files.split_once('\n') {
        assert!(
            [first, second]
                .iter()
                .any(|line| line.starts_with("no such file: "))
        );
        files = if first.contains("Cargo") {
            first
        } else {
            second
        };
    }
    assert_eq!(files, format!("{manifest}: {lines} lines"));
    assert!(end.starts_with("2 jobs done"), "{text}");
}

/// B-14: whichever of them is asked, it tells what all have done.
#[cfg(target_os = "linux")]
#[test]
fn workers_share_a_port_and_their_metrics() {
    let example = Example::start_with("workers", &["3"]);
    let answers = |metrics: &str| -> Vec<u64> {
        metrics
            .lines()
            .filter_map(|line| line.strip_prefix("requests_total{worker="))
            .map(|line| line.split_once(' ').unwrap().1.parse().unwrap())
            .collect()
    };
    // Each connection goes to one of them, by its port; sooner or later everybody has had one.
    let mut sent = 0;
    let mut counts = Vec::new();
    while counts.len() < 3 || counts.contains(&0) {
        assert!(example.get("/").ends_with("hello\n"));
        sent += 1;
        counts = answers(&example.get("/metrics"));
        assert_eq!(counts.iter().sum::<u64>(), sent);
    }
    let kill = Command::new("kill")
        .args(["-TERM", &example.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(example.wait(), Some(0));
}

/// R-26, R-29: the order is always the same.
#[test]
fn echo_gets_its_lines_back_and_stops() {
    let output = Example::run("echo", &["127.0.0.1:0"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with("listening on 127.0.0.1:"), "{text}");
    let want = "the server said: a line\nthe server said: another one\n\
        the server said: good bye\nconnection lost: the connection was closed cleanly\n";
    assert_eq!(rest, want);
}

/// PR-01, PR-22: nicknames, what is said, and who is there.
#[test]
fn chat_tells_everybody_and_counts_them() {
    let mut example = Example::start_with("chat", &["127.0.0.1:0"]);
    let metrics = example.line();
    let metrics = metrics
        .strip_prefix("metrics at http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let guests = |count| {
        let page = programs::get(metrics, "/metrics");
        page.ends_with(&format!("\nchat_guests {count}\n"))
    };
    let connect = || {
        let stream = std::net::TcpStream::connect(example.address).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .unwrap();
        BufReader::new(stream)
    };
    let hears = |guest: &mut BufReader<std::net::TcpStream>, want: &str| {
        let mut line = String::new();
        guest.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{want}\n"));
    };
    let says = |guest: &mut BufReader<std::net::TcpStream>, line: &str| {
        write!(guest.get_mut(), "{line}\r\n").unwrap();
    };
    let (mut ann, mut bob) = (connect(), connect());
    hears(&mut ann, "your nickname?");
    hears(&mut bob, "your nickname?");
    says(&mut ann, "Ann");
    hears(&mut ann, "Ann has come");
    says(&mut bob, "Ann");
    hears(&mut bob, "another one, please");
    says(&mut bob, "Bob");
    hears(&mut bob, "Bob has come");
    hears(&mut ann, "Bob has come");
    assert!(guests(2));
    says(&mut ann, "hello \x1b[1mBob");
    hears(&mut bob, "Ann: hello [1mBob");
    hears(&mut ann, "Ann: hello [1mBob");
    drop(ann);
    hears(&mut bob, "Ann is gone");
    assert!(guests(1));
}

/// Runs `curl`, and gives what it prints.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// W-59: a file goes there and comes back; one that is too large, or is to go elsewhere, does not.
#[test]
fn upload_takes_files_and_gives_parts_of_them() {
    if !programs::has_program("curl") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("uploads-{}", std::process::id()));
    let example = Example::start_with("upload", &[folder.to_str().unwrap()]);
    assert!(example.get("/").contains("request.upload.onprogress"));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let content = include_str!("../Cargo.toml");
    let answer = curl(&["-T", manifest, &example.url("/files/")]);
    let size = content.len();
    assert_eq!(answer, format!("received Cargo.toml: {size} bytes\n"));
    let url = example.url("/files/Cargo.toml");
    assert_eq!(curl(&[&url]), content);
    assert_eq!(curl(&["-r", "0-10", &url]), "[workspace]");
    let parts = curl(&["-i", "-r", "0-0,-1", &url]);
    assert!(parts.starts_with("HTTP/1.1 206 "), "{parts}");
    assert!(parts.contains("multipart/byteranges"), "{parts}");
    // Announced, and found out.
    let large = folder.with_extension("large");
    std::fs::File::create(&large)
        .and_then(|file| file.set_len(200 << 20))
        .unwrap();
    for source in [large.to_str().unwrap(), "/dev/zero"] {
        let answer = curl(&["-i", "-T", source, &example.url("/files/big")]);
        assert!(answer.contains("HTTP/1.1 413 "), "{answer}");
    }
    std::fs::remove_file(&large).unwrap();
    let hidden = curl(&["-i", "-T", manifest, &example.url("/files/.part-1")]);
    assert!(hidden.contains("HTTP/1.1 400 "), "{hidden}");
    let outside = example.url("/files/..%2f..%2fx");
    let outside = curl(&["-i", "-T", manifest, "--path-as-is", &outside]);
    assert!(outside.contains("HTTP/1.1 404 "), "{outside}");
    assert!(example.get("/files/none").starts_with("HTTP/1.1 404 "));
    drop(example);
    let names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["Cargo.toml"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A client of the example `events`, behind the head of its response.
struct Listener(BufReader<std::net::TcpStream>);

impl Listener {
    fn connect(example: &Example) -> Self {
        let mut stream = std::net::TcpStream::connect(example.address).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut listener = Self(BufReader::new(stream));
        listener.skip_to(": welcome");
        listener
    }

    /// Reads as far as a line that begins so; without it, the test fails at the end of the stream.
    fn skip_to(&mut self, begin: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(begin) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {begin}");
        }
        line
    }
}

fn post(example: &Example, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(example.address).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// B-12, W-41: clients come and go, a slow one misses something and learns how much, and streams that
/// are open do not hold up the end.
#[cfg(unix)]
#[test]
fn events_tells_everybody_and_ends_at_once() {
    let example = Example::start("events");
    assert!(example.get("/").contains("new EventSource"));
    let (mut first, mut second) = (Listener::connect(&example), Listener::connect(&example));
    assert!(post(&example, "hello").ends_with("told 2 clients\n"));
    first.skip_to("data: hello");
    second.skip_to("data: hello");
    // Now the second does not read, which is nothing to the first.
    let long = "x".repeat(500_000);
    for _ in 0..40 {
        assert!(post(&example, &long).ends_with("told 2 clients\n"));
        first.skip_to("data: xxx");
    }
    let reader = std::thread::spawn(move || (second.skip_to("event: missed"), second));
    while !reader.is_finished() {
        post(&example, "again");
    }
    let (_, mut second) = reader.join().unwrap();
    drop(first);
    while !post(&example, "bye").ends_with("told 1 clients\n") {}
    second.skip_to("data: bye");
    let pid = example.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status();
    assert!(kill.unwrap().success());
    assert_eq!(example.wait(), Some(0));
    // In good order: the last chunk has come.
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut second.0, &mut rest).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
}

/// R-14.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_an_example_in_good_order() {
    for signal in ["-INT", "-TERM"] {
        let example = Example::start("metrics");
        example.get("/"); // it runs now, and not only listens
        let pid = example.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(example.wait(), Some(0), "after {signal}");
    }
}

#[test]
fn what_cannot_be_listened_on_is_told_in_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for example in [
        "metrics", "klein", "delayed", "embedded", "echo", "chat", "events", "upload",
    ] {
        for (argument, want) in [
            (taken.as_str(), "in use"),
            ("nonsense", "invalid socket address"),
            ("127.0.0.1:99999", "invalid port"),
        ] {
            let output = Example::run(example, &[argument]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{example} {argument}");
            assert_eq!(text.lines().count(), 1, "{text}");
            let begin = format!("Error: cannot listen on {argument}: ");
            assert!(text.starts_with(&begin), "{text}");
            assert!(text.contains(want), "{text}");
        }
    }
}
