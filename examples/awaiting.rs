//! Straight-line code: three shops are asked at once, and one of them takes too long.
//!
//! ```text
//! cargo run --release --example awaiting
//! corner shop: 12
//! market: closed today
//! mail order: no answer within 300ms
//! the best price is 12
//! ```

use std::process::ExitCode;
use std::time::Duration;

use prometheus_deferred::{Failure, Reactor, TimeoutError, defer_to_thread, react, sleep};

/// Asks one shop, which takes its time.
async fn price(reactor: Reactor, shop: &'static str) -> Result<u32, Failure> {
    match shop {
        "corner shop" => {
            sleep(&reactor, Duration::from_millis(100)).await?;
            Ok(12)
        }
        "market" => defer_to_thread(&reactor, || Err(Failure::message("closed today"))).await,
        _ => {
            sleep(&reactor, Duration::from_secs(3600)).await?; // cancelled long before
            Ok(9)
        }
    }
}

async fn best_price(reactor: Reactor) -> Result<(), Failure> {
    let asked = ["corner shop", "market", "mail order"].map(|shop| {
        let offer = reactor.spawn(price(reactor.clone(), shop));
        (
            shop,
            offer.add_timeout(Duration::from_millis(300), &reactor),
        )
    });
    let mut best = None;
    for (shop, offer) in asked {
        match offer.await {
            Ok(price) => {
                println!("{shop}: {price}");
                best = best.into_iter().chain([price]).min();
            }
            Err(failure) => match failure.check::<TimeoutError>() {
                Some(timeout) => println!("{shop}: no answer within {:?}", timeout.timeout),
                None => println!("{shop}: {failure}"),
            },
        }
    }
    let best = best.ok_or(Failure::message("nobody sells it"))?;
    println!("the best price is {best}");
    Ok(())
}

fn main() -> ExitCode {
    react(|reactor| reactor.spawn(best_price(reactor.clone())))
}
