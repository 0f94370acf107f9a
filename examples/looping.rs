//! A heart that beats, and stumbles once.
//!
//! ```text
//! cargo run --release --example looping
//! beat
//! beat
//! beat, after 2 that were missed
//! beat
//! the heart has stopped
//! ```

use std::process::ExitCode;
use std::time::Duration;

use prometheus_deferred::{LoopingCall, Reactor, react};

const INTERVAL: Duration = Duration::from_millis(400);

fn heart(reactor: &Reactor) -> LoopingCall {
    let mut beats = 0;
    LoopingCall::with_handle(reactor, move |heart, count| {
        beats += 1;
        match count {
            1 => println!("beat"),
            _ => println!("beat, after {} that were missed", count - 1),
        }
        match beats {
            // Nothing else happens on this thread meanwhile, so the next two beats are missed.
            2 => std::thread::sleep(INTERVAL * 5 / 2),
            4 => heart.stop()?,
            _ => {}
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    react(|reactor| {
        let beating = heart(&reactor).start(INTERVAL);
        reactor.spawn(async {
            beating?.await?;
            println!("the heart has stopped");
            Ok(())
        })
    })
}
