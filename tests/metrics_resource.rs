//! `/metrics` as a resource of a site.

mod scrape;

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use prometheus_deferred::MetricsResource;
use prometheus_deferred::exposition::text;
use prometheus_deferred::web::{Klein, Tree};
use scrape::Served;

/// P-10.
#[test]
fn get_gives_exactly_the_text_of_the_registry() {
    let registry = jobs_registry();
    let server = serve(MetricsResource::with_registry(registry.clone()));
    let reply = server.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("Content-Type"), Some(text::CONTENT_TYPE));
    assert_eq!(reply.text(), exposition(&registry));
    let length = reply.body.len().to_string();
    assert_eq!(reply.field("Content-Length"), Some(length.as_str()));
}

/// P-10. What is seen is what is there when the scrape comes.
#[test]
fn each_scrape_sees_the_present() {
    let registry = Registry::new();
    let hits = IntCounter::new("hits_total", "Hits.").unwrap();
    registry.register(Box::new(hits.clone())).unwrap();
    let server = serve(MetricsResource::with_registry(registry));
    for count in 1..=3 {
        hits.inc();
        let reply = server.get("/metrics");
        assert!(reply.text().ends_with(&format!("hits_total {count}\n")));
    }
}

/// P-10.
#[test]
fn two_registries_do_not_mix() {
    let of = |name: &str| {
        let registry = Registry::new();
        let counter = IntCounter::new(name, "Help.").unwrap();
        registry.register(Box::new(counter)).unwrap();
        MetricsResource::with_registry(registry)
    };
    let (left, right) = (of("left_total"), of("right_total"));
    let server = Served::start(|| {
        let root = Tree::new();
        root.put_child("left", left);
        root.put_child("right", right);
        root
    });
    let samples = |path: &str| server.get(path).text().lines().last().map(str::to_owned);
    assert_eq!(samples("/left").as_deref(), Some("left_total 0"));
    assert_eq!(samples("/right").as_deref(), Some("right_total 0"));
}

/// P-10.
#[test]
fn the_default_registry_is_that_of_the_macros() {
    let scrapes = prometheus::register_int_counter!("default_scrapes_total", "Scrapes.").unwrap();
    scrapes.inc_by(7);
    let server = serve(MetricsResource::new());
    let reply = server.get("/metrics");
    assert!(reply.text().contains("\ndefault_scrapes_total 7\n"));
}

/// P-10. Also where a route returns it.
#[test]
fn a_route_may_answer_with_it() {
    let registry = jobs_registry();
    let want = exposition(&registry);
    let server = Served::start(move || {
        let mut app = Klein::new();
        app.route("/metrics", move |_request| {
            MetricsResource::with_registry(registry.clone())
        });
        app.resource()
    });
    assert_eq!(server.get("/metrics").text(), want);
}

/// P-11.
#[test]
fn paths_below_answer_the_same() {
    let registry = jobs_registry();
    let want = exposition(&registry);
    let server = serve(MetricsResource::with_registry(registry));
    for path in [
        "/metrics/",
        "/metrics/a",
        "/metrics/a/b?c=d",
        "/metrics/..%2f",
    ] {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.text()), (200, want.as_str()), "{path}");
    }
}

/// P-11. Browsers ask for it at the root.
#[test]
fn favicon_is_empty() {
    let resource = MetricsResource::with_registry(jobs_registry());
    let server = Served::start(|| resource);
    assert!(!server.get("/").body.is_empty());
    let reply = server.get("/favicon.ico");
    assert_eq!((reply.status, reply.text()), (200, ""));
}

/// P-13.
#[cfg(feature = "gzip")]
#[test]
fn the_body_is_compressed_for_those_who_take_gzip() {
    use std::io::Read;

    let registry = jobs_registry();
    let want = exposition(&registry);
    let server = serve(MetricsResource::with_registry(registry));
    for accept in ["gzip", "GZip", "deflate, gzip;q=0.5", "br,gzip", "*"] {
        let reply = server.ask("GET", "/metrics", &[("Accept-Encoding", accept)]);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.field("Content-Encoding"), Some("gzip"), "{accept}");
        assert_eq!(reply.field("Content-Type"), Some(text::CONTENT_TYPE));
        assert_eq!(reply.field("Vary"), Some("Accept-Encoding"));
        let mut body = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&*reply.body);
        decoder.read_to_string(&mut body).unwrap();
        assert_eq!(body, want, "{accept}");
    }
}

/// P-13. A list may come in several fields (RFC 9110, 5.3).
#[cfg(feature = "gzip")]
#[test]
fn gzip_may_stand_in_any_of_several_fields() {
    let server = serve(MetricsResource::with_registry(jobs_registry()));
    let fields = [("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")];
    let reply = server.ask("GET", "/metrics", &fields);
    assert_eq!(reply.field("Content-Encoding"), Some("gzip"));
}

/// P-13.
#[test]
fn the_body_is_plain_for_all_others() {
    let registry = jobs_registry();
    let want = exposition(&registry);
    let server = serve(MetricsResource::with_registry(registry.clone()));
    for accept in ["", "identity", "br", "gzip;q=0", "*;q=0", "gzipped"] {
        let reply = server.ask("GET", "/metrics", &[("Accept-Encoding", accept)]);
        assert_eq!(reply.field("Content-Encoding"), None, "{accept}");
        assert_eq!(reply.text(), want, "{accept}");
    }

    let server = serve(MetricsResource::with_registry(registry).compression(false));
    let reply = server.ask("GET", "/metrics", &[("Accept-Encoding", "gzip")]);
    assert_eq!(reply.field("Content-Encoding"), None);
    assert_eq!(reply.text(), want);
}

/// P-14.
#[test]
fn names_choose_samples() {
    let server = serve(MetricsResource::with_registry(jobs_registry()));
    let sum = "# HELP job_seconds Time a job takes.\n# TYPE job_seconds histogram\n\
               job_seconds_sum 7.25\n";
    let total = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total 3\n";
    for (query, want) in [
        ("?name[]=jobs_total", total.to_owned()),
        ("?name%5B%5D=jobs_total", total.to_owned()),
        (
            "?name[]=jobs_total&name[]=job_seconds_sum",
            format!("{sum}{total}"),
        ),
        ("?name[]=no_such_name", String::new()),
        ("?name[]=jobs_total&name[]=no_such_name", total.to_owned()),
        ("?name[]=jobs", String::new()),
        ("?name[]=", String::new()),
    ] {
        let reply = server.get(&format!("/metrics{query}"));
        assert_eq!(
            (reply.status, reply.text()),
            (200, want.as_str()),
            "{query}"
        );
    }
    // Other parameters choose nothing.
    let all = server.get("/metrics").body;
    assert_eq!(server.get("/metrics?name=jobs_total&debug=1").body, all);
}

/// P-15.
#[test]
fn options_tells_the_methods() {
    let server = serve(MetricsResource::with_registry(jobs_registry()));
    let reply = server.ask("OPTIONS", "/metrics", &[]);
    assert_eq!((reply.status, reply.text()), (200, ""));
    assert_eq!(reply.field("Allow"), Some("GET, HEAD, OPTIONS"));
}

/// P-15.
#[test]
fn head_gives_the_fields_of_get_without_the_body() {
    let server = serve(MetricsResource::with_registry(jobs_registry()));
    for accept in ["identity", "gzip"] {
        let ask = |method| server.ask(method, "/metrics", &[("Accept-Encoding", accept)]);
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert_eq!((head.status, head.text()), (200, ""));
        assert_eq!(head.undated_fields(), get.undated_fields());
        let length = get.body.len().to_string();
        assert_eq!(head.field("Content-Length"), Some(length.as_str()));
    }
}

/// P-15.
#[test]
fn other_methods_are_refused() {
    let server = serve(MetricsResource::with_registry(jobs_registry()));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let reply = server.ask(method, "/metrics", &[("Content-Length", "0")]);
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.field("Allow"), Some("GET, HEAD, OPTIONS"), "{method}");
    }
}

/// B-17, in part: the other families of that scrape are still lost.
#[test]
fn a_collector_that_panics_costs_one_scrape() {
    static IS_BROKEN: AtomicBool = AtomicBool::new(true);
    struct Flaky(IntCounter);
    impl Collector for Flaky {
        fn desc(&self) -> Vec<&Desc> {
            self.0.desc()
        }
        fn collect(&self) -> Vec<MetricFamily> {
            assert!(!IS_BROKEN.load(Ordering::SeqCst), "broken collector");
            self.0.collect()
        }
    }

    let registry = Registry::new();
    let flaky = Flaky(IntCounter::new("flaky_total", "Flaky.").unwrap());
    registry.register(Box::new(flaky)).unwrap();
    let server = serve(MetricsResource::with_registry(registry));
    for _ in 0..3 {
        assert_eq!(server.get("/metrics").status, 500);
    }
    IS_BROKEN.store(false, Ordering::SeqCst);
    let reply = server.get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(reply.text().ends_with("flaky_total 0\n"));
}

fn serve(resource: MetricsResource) -> Served {
    Served::start(|| {
        let root = Tree::new();
        root.put_child("metrics", resource);
        root
    })
}

/// A counter at 3, and a histogram with one observation of 7.25.
fn jobs_registry() -> Registry {
    let registry = Registry::new();
    let jobs = IntCounter::new("jobs_total", "Jobs done.").expect("a good name");
    jobs.inc_by(3);
    let seconds = HistogramOpts::new("job_seconds", "Time a job takes.");
    let seconds = Histogram::with_opts(seconds).expect("a good name");
    seconds.observe(7.25);
    registry.register(Box::new(jobs)).expect("new");
    registry.register(Box::new(seconds)).expect("new");
    registry
}

fn exposition(registry: &Registry) -> String {
    let mut text = Vec::new();
    text::encode(&registry.gather(), &mut text);
    String::from_utf8(text).expect("the format is UTF-8")
}
