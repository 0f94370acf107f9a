//! The classic text format of Prometheus, version 0.0.4.
//!
//! [`encode`] turns what [`Registry::gather`](prometheus::Registry::gather) returns into the bytes
//! of a scrape. A family is two comments and its samples, one a line:
//!
//! ```text
//! # HELP job_seconds How long the jobs take.        \ and newline are escaped
//! # TYPE job_seconds histogram
//! job_seconds_bucket{queue="mail",le="0.5"} 1       ", \ and newline are escaped
//! job_seconds_bucket{queue="mail",le="+Inf"} 2      own labels by name, then le or quantile
//! job_seconds_sum{queue="mail"} 7.25
//! job_seconds_count{queue="mail"} 2                 whole numbers without a point
//! ```
//!
//! The bytes are those of [`prometheus::TextEncoder`], except where that one is wrong, fails or
//! panics, and where a shorter number means the same:
//!
//! | given                                   | `TextEncoder`               | here                 |
//! |-----------------------------------------|-----------------------------|----------------------|
//! | infinite value or bound                 | `inf`, `-inf`               | `+Inf`, `-Inf`       |
//! | value or bound of 1e16 and more         | all digits, 301 for `1e300` | `1e+300`             |
//! | value or bound closer to zero than 1e-5 | all zeros, 300 for `1e-300` | `1e-300`             |
//! | value half-way between two spellings    | `1125899906842624.3`        | `1125899906842624.2` |
//! | labels that came out of order           | as they came                | sorted by name       |
//! | untyped metric                          | panics                      | written              |
//! | family without a name or metrics        | error, the rest is missing  | left out             |
//!
//! Registries return unsorted labels: the labels that [`Registry::new_custom`] adds to every metric
//! come last, in the order of a hash map. Names are written as they are, and a duplicate label is
//! written twice: this file does not decide what may be registered.
//!
//! Encoding cannot fail. Beside the output it allocates a few scratch buffers a call and, untyped
//! ones aside, nothing a sample: 4800 samples took 0.20 ms and 7 allocations, `TextEncoder`
//! 0.71 ms and 7210.
//!
//! [`Registry::new_custom`]: prometheus::Registry::new_custom

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Value of the `Content-Type` field that goes with the text.
///
/// ```
/// # use prometheus_deferred::exposition::text::CONTENT_TYPE;
/// // What prometheus has for it lacks the charset, and help and label values are UTF-8.
/// assert_eq!(CONTENT_TYPE, format!("{}; charset=utf-8", prometheus::TEXT_FORMAT));
/// ```
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends the text of `families` to `out`, in their order.
///
/// `out` keeps its contents, so a large exposition can be written family by family.
///
/// # Examples
///
/// ```
/// # use prometheus_deferred::exposition::text;
/// use prometheus::{IntCounter, Registry};
///
/// let registry = Registry::new();
/// let jobs = IntCounter::new("jobs_total", "Jobs done.")?;
/// registry.register(Box::new(jobs.clone()))?;
/// jobs.inc_by(3);
///
/// let mut out = Vec::new();
/// text::encode(&registry.gather(), &mut out);
/// assert_eq!(out, b"# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total 3\n");
/// # Ok::<(), prometheus::Error>(())
/// ```
pub fn encode(families: &[MetricFamily], out: &mut Vec<u8>) {
    encode_named(families, |_| true, out);
}

/// Appends only the samples whose names are wanted, each under the comments of its family.
///
/// Names are those of samples: a histogram `job_seconds` has `job_seconds_bucket`,
/// `job_seconds_sum` and `job_seconds_count`, and no sample `job_seconds`. A family without wanted
/// samples is left out completely. `is_wanted` is called once for every sample.
///
/// # Examples
///
/// ```
/// # use prometheus_deferred::exposition::text;
/// use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
///
/// let registry = Registry::new();
/// let seconds = Histogram::with_opts(HistogramOpts::new("job_seconds", "Time a job takes."))?;
/// registry.register(Box::new(seconds.clone()))?;
/// registry.register(Box::new(IntCounter::new("jobs_total", "Jobs done.")?))?;
/// seconds.observe(7.25);
///
/// let mut out = Vec::new();
/// let names = ["job_seconds_sum", "no_such_name"];
/// text::encode_named(&registry.gather(), |name| names.contains(&name), &mut out);
/// let lines: Vec<_> = std::str::from_utf8(&out)?.lines().collect();
/// assert_eq!(lines, [
///     "# HELP job_seconds Time a job takes.",
///     "# TYPE job_seconds histogram",
///     "job_seconds_sum 7.25",
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode_named(
    families: &[MetricFamily],
    is_wanted: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    let mut samples = Samples {
        is_wanted,
        out,
        name: String::new(),
        pairs: Vec::new(),
        labels: Vec::new(),
        timestamp_ms: 0,
    };
    for family in families.iter().filter(|family| !family.name().is_empty()) {
        let start = samples.out.len();
        write_comments(samples.out, family);
        let after_comments = samples.out.len();
        for metric in family.get_metric() {
            samples.begin(metric);
            samples.write(family, metric);
        }
        if samples.out.len() == after_comments {
            samples.out.truncate(start);
        }
    }
}

/// Writes `# HELP`, unless there is no help text, and `# TYPE`.
fn write_comments(out: &mut Vec<u8>, family: &MetricFamily) {
    if !family.help().is_empty() {
        put(out, &["# HELP ", family.name(), " "]);
        put_escaped(out, family.help(), b'\\');
        out.push(b'\n');
    }
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    };
    put(out, &["# TYPE ", family.name(), " ", kind, "\n"]);
}

/// The samples of one metric at a time, and what they have in common.
struct Samples<'f, 'o, W> {
    is_wanted: W,
    out: &'o mut Vec<u8>,
    /// Name of the latest sample: `is_wanted` takes it in one piece.
    name: String,
    /// Labels of the metric, sorted, where they did not come so.
    pairs: Vec<&'f LabelPair>,
    /// The same as text, `{a="b",c="d"` without the closing brace, or empty. Sorting and escaping
    /// once a metric serves all buckets of a histogram.
    labels: Vec<u8>,
    /// Zero stands for none, as in `TextEncoder`.
    timestamp_ms: i64,
}

impl<'f, W: Fn(&str) -> bool> Samples<'f, '_, W> {
    /// Takes over what the samples of `metric` share.
    fn begin(&mut self, metric: &'f Metric) {
        self.timestamp_ms = metric.timestamp_ms();
        self.labels.clear();
        let labels = metric.get_label();
        if labels.is_sorted_by(|a, b| a.name() <= b.name()) {
            put_labels(&mut self.labels, labels.iter());
        } else {
            self.pairs.clear();
            self.pairs.extend(labels);
            // Stable: a name that came twice keeps its order. Up to 20 labels it allocates nothing.
            self.pairs.sort_by(|a, b| a.name().cmp(b.name()));
            put_labels(&mut self.labels, self.pairs.iter().copied());
        }
    }

    /// Writes the samples that `metric` consists of in a family of this type.
    fn write(&mut self, family: &MetricFamily, metric: &Metric) {
        let name = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => self.sample(name, "", None, metric.get_counter().value()),
            MetricType::GAUGE => self.sample(name, "", None, metric.get_gauge().value()),
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let count = histogram.get_sample_count() as f64;
                let buckets = histogram.get_bucket();
                let is_complete = buckets.iter().any(|b| b.upper_bound() == f64::INFINITY);
                for bucket in buckets {
                    let le = Some(("le", bucket.upper_bound()));
                    self.sample(name, "_bucket", le, bucket.cumulative_count() as f64);
                }
                if !is_complete {
                    self.sample(name, "_bucket", Some(("le", f64::INFINITY)), count);
                }
                self.sample(name, "_sum", None, histogram.get_sample_sum());
                self.sample(name, "_count", None, count);
            }
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                for quantile in summary.get_quantile() {
                    let label = Some(("quantile", quantile.quantile()));
                    self.sample(name, "", label, quantile.value());
                }
                self.sample(name, "_sum", None, summary.sample_sum());
                self.sample(name, "_count", None, summary.sample_count() as f64);
            }
            MetricType::UNTYPED => self.sample(name, "", None, untyped_value(metric)),
        }
    }

    /// Writes one line, if its name is wanted.
    fn sample(&mut self, family: &str, suffix: &str, own: Option<(&str, f64)>, value: f64) {
        self.name.clear();
        self.name.push_str(family);
        self.name.push_str(suffix);
        if !(self.is_wanted)(&self.name) {
            return;
        }
        put(self.out, &[&self.name]);
        self.out.extend_from_slice(&self.labels);
        if let Some((label, bound)) = own {
            let separator = if self.labels.is_empty() { "{" } else { "," };
            put(self.out, &[separator, label, "=\""]);
            put_number(self.out, bound);
            self.out.push(b'"');
        }
        if own.is_some() || !self.labels.is_empty() {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        put_number(self.out, value);
        if self.timestamp_ms != 0 {
            put(
                self.out,
                &[" ", itoa::Buffer::new().format(self.timestamp_ms)],
            );
        }
        self.out.push(b'\n');
    }
}

/// Writes labels without the closing brace, or nothing.
fn put_labels<'f>(out: &mut Vec<u8>, pairs: impl Iterator<Item = &'f LabelPair>) {
    let mut separator = "{";
    for pair in pairs {
        put(out, &[separator, pair.name(), "=\""]);
        put_escaped(out, pair.value(), b'"');
        out.push(b'"');
        separator = ",";
    }
}

/// Writes a value or a bucket bound: one spelling for every place, the shortest that reads back
/// as the same number, of at most 24 bytes.
fn put_number(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        put(out, &["NaN"]);
    } else if number.is_infinite() {
        put(out, &[if number > 0.0 { "+Inf" } else { "-Inf" }]);
    } else if number.abs() < 1e16 && number.fract() == 0.0 {
        // Most values of most scrapes are counts. From 1e16 on zmij writes an exponent; below, it
        // would end a whole number in `.0`. Negative zero keeps its sign, as in Go and Rust.
        let sign = if number.is_sign_negative() { "-" } else { "" };
        put(
            out,
            &[sign, itoa::Buffer::new().format(number.abs() as u64)],
        );
    } else {
        put(out, &[zmij::Buffer::new().format_finite(number)]);
    }
}

/// Writes `text` with a backslash before each backslash and each `quote`, and a newline as `\n`.
fn put_escaped(out: &mut Vec<u8>, text: &str, quote: u8) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'\n', quote, rest) {
        out.extend_from_slice(&rest[..at]);
        let escaped = if rest[at] == b'\n' { b'n' } else { rest[at] };
        out.extend_from_slice(&[b'\\', escaped]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

// The types in `prometheus::proto` have two shapes. The feature `protobuf` of prometheus replaces
// the plain structs by generated ones, and any crate in a user's dependency graph can switch it
// on, so this file compiles under both. What differs for us: plain counters and gauges have
// `get_value`, generated ones `value`. Each of the traits below lends one shape the name that it
// lacks; where both exist, the compiler takes the inherent method before that of the trait, so
// neither calls itself. To check: `cargo test` and `cargo test --features prometheus/protobuf`.

/// Lends `value` to the plain shape.
#[allow(dead_code, reason = "the generated shape has the method")]
trait Value {
    fn value(&self) -> f64;
}

/// Lends `get_value` to the generated shape, so that the bodies of [`Value`] compile there.
#[allow(dead_code, reason = "the plain shape has the method")]
trait GetValue {
    fn get_value(&self) -> f64;
}

macro_rules! lend_values {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn value(&self) -> f64 {
                self.get_value()
            }
        }

        impl GetValue for $kind {
            fn get_value(&self) -> f64 {
                self.value()
            }
        }
    )*};
}

lend_values!(Counter, Gauge);

/// The number of an untyped metric, NaN if it has none.
///
/// The plain shape has a getter for it but no public field, the generated one a public field but
/// no getter, and a trait cannot lend a field. What both have is `Debug`. It costs 0.7 us and 7
/// allocations, for a type that only a hand-written collector can make.
fn untyped_value(metric: &Metric) -> f64 {
    untyped_value_in(&format!("{metric:?}")).unwrap_or(f64::NAN)
}

/// Finds the number in the `Debug` text of either shape.
fn untyped_value_in(debug: &str) -> Option<f64> {
    // The last one: a label value before it may hold any text, and no text comes after it.
    let (_, field) = debug.rsplit_once("untyped: ")?;
    let (_, number) = field.split_once("Untyped { value: ")?;
    let number = number.strip_prefix("Some(").unwrap_or(number);
    number.split([' ', ',', ')']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prometheus::proto::{Bucket, Histogram, Quantile, Summary, Untyped};
    use prometheus::{
        GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
        TextEncoder, linear_buckets,
    };
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    /// P-31. All that a program is likely to expose, in text that `TextEncoder` gets right.
    #[test]
    fn bytes_are_those_of_text_encoder() {
        let families = every_kind();
        assert_eq!(
            text(&families),
            TextEncoder::new().encode_to_string(&families).unwrap()
        );
    }

    /// P-31. The middle column fails the day that `TextEncoder` is mended.
    #[test]
    fn differences_from_text_encoder_are_these() {
        let inf = f64::INFINITY;
        let g = |value| gauge("g", &[], value);
        let h = |bound| histogram("h", &[bound]);
        let swapped = gauge("g", &[("b", "1"), ("a", "2")], 0.0);
        for (family, theirs, ours) in [
            (g(inf), "g inf", "g +Inf"),
            (g(-inf), "g -inf", "g -Inf"),
            (g(1e16), "g 10000000000000000", "g 1e+16"),
            (g(-1.5e17), "g -150000000000000000", "g -1.5e+17"),
            (g(9.9e-6), "g 0.0000099", "g 9.9e-6"),
            (
                g(2_f64.powi(50) + 0.25),
                "g 1125899906842624.3",
                "g 1125899906842624.2",
            ),
            (
                h(inf),
                r#"h_bucket{le="inf"} 0"#,
                r#"h_bucket{le="+Inf"} 0"#,
            ),
            (
                h(-inf),
                r#"h_bucket{le="-inf"} 0"#,
                r#"h_bucket{le="-Inf"} 0"#,
            ),
            (swapped, r#"g{b="1",a="2"} 0"#, r#"g{a="2",b="1"} 0"#),
        ] {
            let families = [family];
            let by_them = TextEncoder::new().encode_to_string(&families).unwrap();
            assert_eq!(by_them.lines().nth(1), Some(theirs), "TextEncoder");
            assert_eq!(text(&families), by_them.replace(theirs, ours));
        }
    }

    /// P-31.
    #[test]
    fn comments_come_before_samples_and_both_are_escaped() {
        let opts = HistogramOpts::new("h", "A \\, a \"quote\",\na line, ä🦀.")
            .buckets(vec![0.5, 1.0])
            .const_label("m", r"\n");
        let family = HistogramVec::new(opts, &["z", "b"]).unwrap();
        family
            .with_label_values(&["🦀", "a \"b\"\nc"])
            .observe(0.75);
        let registry = Registry::new();
        registry.register(Box::new(family)).unwrap();

        let want = r##"
# HELP h A \\, a "quote",\na line, ä🦀.
# TYPE h histogram
h_bucket{b="a \"b\"\nc",m="\\n",z="🦀",le="0.5"} 0
h_bucket{b="a \"b\"\nc",m="\\n",z="🦀",le="1"} 1
h_bucket{b="a \"b\"\nc",m="\\n",z="🦀",le="+Inf"} 1
h_sum{b="a \"b\"\nc",m="\\n",z="🦀"} 0.75
h_count{b="a \"b\"\nc",m="\\n",z="🦀"} 1
"##;
        assert_eq!(text(&registry.gather()), want.trim_start());
    }

    /// P-31. Common labels come from a hash map: their order differs from run to run.
    #[test]
    fn labels_are_sorted_by_name_with_le_last() {
        let common = ["site", "az", "mode", "zone", "le2"].map(|name| (name.into(), "c".into()));
        let registry = Registry::new_custom(None, Some(HashMap::from(common))).unwrap();
        let opts = HistogramOpts::new("h", "H.")
            .buckets(vec![2.0])
            .const_label("n", "k");
        let family = HistogramVec::new(opts, &["x", "a"]).unwrap();
        family.with_label_values(&["1", "2"]).observe(1.0);
        registry.register(Box::new(family)).unwrap();

        let labels = r#"a="2",az="c",le2="c",mode="c",n="k",site="c",x="1",zone="c""#;
        let text = text(&registry.gather());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], format!("h_bucket{{{labels},le=\"2\"}} 1"));
        assert_eq!(lines[4], format!("h_sum{{{labels}}} 1"));
    }

    /// P-31. A registry makes neither, but a program that fills in families by hand may.
    #[test]
    fn family_without_name_or_metrics_is_left_out() {
        let mut bare = gauge("bare", &[], 1.0);
        bare.set_metric(vec![]);
        let families = [bare, gauge("", &[], 1.0), gauge("g", &[], 1.0)];
        assert!(TextEncoder::new().encode_to_string(&families).is_err());
        assert_eq!(text(&families), "# TYPE g gauge\ng 1\n");
    }

    /// P-31. `TextEncoder` panics here.
    #[test]
    fn untyped_metric_is_written() {
        /// Lends the generated shape a setter that sets nothing.
        #[allow(dead_code, reason = "the plain shape has the method")]
        trait SetUntyped {
            fn set_untyped(&mut self, _: Untyped) {}
        }
        impl SetUntyped for Metric {}

        let mut untyped = Untyped::default();
        let mut metric = Metric::from_label(labels(&[("l", "untyped: Untyped { value: 7 }")]));
        #[allow(deprecated, reason = "the plain shape has no other way in")]
        {
            untyped.set_value(2.5);
            metric.set_untyped(untyped);
        }
        let value = if format!("{metric:?}").contains("2.5") {
            "2.5"
        } else {
            "NaN"
        };
        assert_eq!(
            text(&[family("u", MetricType::UNTYPED, metric)]),
            format!("# TYPE u untyped\nu{{l=\"untyped: Untyped {{ value: 7 }}\"}} {value}\n")
        );
    }

    /// P-31. Texts like these were printed by prometheus 0.14.0 without and with `protobuf`.
    #[test]
    fn untyped_value_is_found_in_either_shape() {
        for (debug, want) in [
            (
                "untyped: Untyped { value: -1e300 }, histogram: Histogram {",
                Some(-1e300),
            ),
            (
                "untyped: Untyped { value: inf }, histogram:",
                Some(f64::INFINITY),
            ),
            (
                "untyped: MessageField(Some(Untyped { value: Some(2.5), special_",
                Some(2.5),
            ),
            (
                "untyped: MessageField(Some(Untyped { value: None, special_fields:",
                None,
            ),
            (
                r#"value: "untyped: Untyped { value: 7", untyped: MessageField(None),"#,
                None,
            ),
            ("", None),
        ] {
            assert_eq!(untyped_value_in(debug), want, "{debug}");
        }
    }

    /// P-33.
    #[test]
    fn numbers_are_spelled_like_this() {
        for (number, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-5, "0.00001"),
            (1e-6, "1e-6"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::from_bits(1), "5e-324"),
            (9_007_199_254_740_993.0, "9007199254740992"), // 2^53 + 1 is no f64
            (9_999_999_999_999_998.0, "9999999999999998"),
            (-9_999_999_999_999_998.0, "-9999999999999998"),
            (1e16, "1e+16"),
            (u64::MAX as f64, "1.8446744073709552e+19"),
            (1e300, "1e+300"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (-f64::NAN, "NaN"),
        ] {
            assert_eq!(number_text(number), want);
        }
    }

    /// P-33. A bound spelled in two ways would make two series.
    #[test]
    fn bucket_bound_reads_the_same_everywhere() {
        for bound in [0.005, 0.1 + 0.2, 1.0, 2.5e6, 1e17, 1e-7, f64::INFINITY] {
            let families = [
                histogram("h", &[bound]),
                summary("s", &[(bound, bound)]),
                gauge("g", &[], bound),
            ];
            let text = text(&families);
            let bound = number_text(bound);
            assert!(
                text.contains(&format!("h_bucket{{le=\"{bound}\"}} 0\n")),
                "{text}"
            );
            assert!(
                text.contains(&format!("s{{quantile=\"{bound}\"}} {bound}\n")),
                "{text}"
            );
            assert!(text.contains(&format!("g {bound}\n")), "{text}");
        }
    }

    /// P-33. Collectors may send this bucket or leave it to the encoder.
    #[test]
    fn infinite_bucket_is_there_once() {
        for bounds in [&[1.0][..], &[1.0, f64::INFINITY], &[]] {
            let text = text(&[histogram("h", bounds)]);
            assert_eq!(text.matches("le=\"+Inf\"").count(), 1, "{text}");
        }
    }

    /// P-14.
    #[test]
    fn named_samples_come_with_the_comments_of_their_family() {
        let families = [
            histogram("h", &[2.0]),
            gauge("g", &[], 1.0),
            summary("s", &[]),
        ];
        for (names, want) in [
            (&["no_such_name"][..], ""),
            (&[], ""),
            (&["h"], ""),    // a histogram has no sample of its own name,
            (&["s"], ""),    // nor has a summary without quantiles
            (&["h_su"], ""), // whole names only
            (&["h_sum"], "# TYPE h histogram\nh_sum 0\n"),
            (&["s_sum"], "# TYPE s summary\ns_sum 0\n"),
            (
                &["g", "h_count"],
                "# TYPE h histogram\nh_count 0\n# TYPE g gauge\ng 1\n",
            ),
            (
                &["h_bucket"],
                "# TYPE h histogram\nh_bucket{le=\"2\"} 0\nh_bucket{le=\"+Inf\"} 0\n",
            ),
        ] {
            assert_eq!(named_text(&families, names), want, "{names:?}");
        }
    }

    /// P-31. A caller that writes families one by one keeps what it has.
    #[test]
    fn text_is_appended() {
        let mut out = b"# before\n".to_vec();
        encode(&[gauge("a", &[], 1.0)], &mut out);
        encode_named(&[gauge("b", &[], 2.0)], |_| false, &mut out);
        encode(&[gauge("c", &[], 3.0)], &mut out);
        assert_eq!(out, b"# before\n# TYPE a gauge\na 1\n# TYPE c gauge\nc 3\n");
    }

    /// B-09. The scrape of a large registry does not hold up the rest in the allocator.
    #[test]
    fn allocations_do_not_grow_with_the_samples() {
        let allocations = |metrics: usize| {
            let mut family = histogram("h", &linear_buckets(0.1, 0.1, 20).unwrap());
            let mut metric = family.take_metric().remove(0);
            metric.set_label(labels(&[("unsorted", "a\nb"), ("labels", "c")]));
            family.set_metric(vec![metric; metrics]);
            let families = [family];
            let mut out = Vec::with_capacity(1 << 20);
            allocation_counter::measure(|| encode(&families, &mut out)).count_total
        };
        assert_eq!(allocations(500), allocations(1));
    }

    proptest! {
        /// P-33.
        #[test]
        fn finite_numbers_read_back_the_same(number in finite()) {
            let text = number_text(number);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
            prop_assert!(text.len() <= 24, "{}", text);
        }

        /// P-33. The table at the top of the file says that no others differ. A value half-way
        /// between two spellings needs 16 digits, or one with fewer would read back as well.
        #[test]
        fn numbers_of_everyday_size_are_those_of_text_encoder(number in finite()) {
            let (ours, theirs) = (number_text(number), number.to_string());
            if (1e-5..1e16).contains(&number.abs()) && ours != theirs {
                let digits = ours.trim_start_matches(['-', '0', '.']).replace('.', "").len();
                prop_assert!(digits >= 16, "{} {}", ours, theirs);
                prop_assert_eq!(&ours[..ours.len() - 1], &theirs[..theirs.len() - 1]);
            }
        }

        /// P-31.
        #[test]
        fn label_values_and_help_read_back_the_same(value in escapable(), help in escapable()) {
            let mut family = gauge("g", &[("l", &value)], 1.0);
            family.set_help(format!("{help}."));
            let text = text(&[family]);
            let (comment, rest) = text.split_once("\n# TYPE g gauge\ng{l=\"").unwrap();
            let comment = comment.strip_prefix("# HELP g ").unwrap();
            prop_assert_eq!(unescaped(comment, &['\\', 'n']), format!("{help}."));
            let value_text = rest.strip_suffix("\"} 1\n").unwrap();
            prop_assert_eq!(unescaped(value_text, &['\\', 'n', '"']), value);
        }

        /// P-14. The plain way: write everything and drop the other lines.
        #[test]
        fn named_text_is_the_whole_text_without_the_other_lines(
            names in subsequence(sample_names(), 0..=4),
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let families = every_kind();
            let mut want = String::new();
            for family in families.chunks(1) {
                let whole = text(family);
                let (comments, samples): (Vec<_>, Vec<_>) =
                    whole.split_inclusive('\n').partition(|line| line.starts_with('#'));
                let samples: String =
                    samples.into_iter().filter(|line| names.contains(&name_of(line))).collect();
                if !samples.is_empty() {
                    want.extend(comments);
                    want += &samples;
                }
            }
            prop_assert_eq!(named_text(&families, &names), want);
        }
    }

    fn text(families: &[MetricFamily]) -> String {
        let mut out = Vec::new();
        encode(families, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn named_text(families: &[MetricFamily], names: &[&str]) -> String {
        let mut out = Vec::new();
        encode_named(families, |name| names.contains(&name), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn number_text(number: f64) -> String {
        let mut out = Vec::new();
        put_number(&mut out, number);
        String::from_utf8(out).unwrap()
    }

    fn name_of(line: &str) -> &str {
        line.split(['{', ' ']).next().unwrap()
    }

    /// The names of all samples of [`every_kind`], and one that is none.
    fn sample_names() -> Vec<String> {
        let text = text(&every_kind());
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<_> = samples.map(|line| name_of(line).to_string()).collect();
        names.dedup();
        names.push("no_such_name".to_string());
        names
    }

    /// Undoes the escaping, by a reader that knows the characters `escapes` after a backslash
    /// and refuses any that should have been escaped.
    fn unescaped(text: &str, escapes: &[char]) -> String {
        let mut chars = text.chars();
        let mut plain = String::new();
        while let Some(char) = chars.next() {
            if char == '\\' {
                let escape = chars.next().filter(|char| escapes.contains(char));
                let escape = escape.unwrap_or_else(|| panic!("unknown escape in {text:?}"));
                plain.push(if escape == 'n' { '\n' } else { escape });
            } else {
                assert!(
                    char == 'n' || !escapes.contains(&char),
                    "bare {char:?} in {text:?}"
                );
                assert_ne!(char, '\n', "bare newline in {text:?}");
                plain.push(char);
            }
        }
        plain
    }

    fn finite() -> impl Strategy<Value = f64> {
        let near_1e16 = -20_000_000_000_000_000_i64..20_000_000_000_000_000;
        prop_oneof![
            any::<u64>()
                .prop_map(f64::from_bits)
                .prop_filter("not finite", |n| n.is_finite()),
            near_1e16.prop_map(|whole| whole as f64),
            (any::<i32>(), -12..12).prop_map(|(digits, exp)| f64::from(digits) * 10_f64.powi(exp)),
        ]
    }

    /// Random text in which the characters that matter are frequent.
    fn escapable() -> impl Strategy<Value = String> {
        let char = prop_oneof![select(vec!['\\', '"', '\n', 'n', '🦀']), any::<char>()];
        vec(char, 0..12).prop_map(String::from_iter)
    }

    /// Every type that a registry can hold, and two families made by hand: with and without
    /// labels, common labels, help and timestamp.
    fn every_kind() -> Vec<MetricFamily> {
        let common = HashMap::from([("zone".to_string(), "eu \"1\"".to_string())]);
        let registry = Registry::new_custom(Some("app".to_string()), Some(common)).unwrap();

        let opts = Opts::new("jobs_total", "Jobs\\tasks, \"all\"\nof them.").const_label("a", "\\");
        let jobs = IntCounterVec::new(opts, &["queue", "kind"]).unwrap();
        jobs.with_label_values(&["müll 🦀", "x\ny"])
            .inc_by(u64::from(u32::MAX));
        jobs.with_label_values(&["", "\"quoted\\\""]).inc();
        registry.register(Box::new(jobs)).unwrap();

        let degrees = GaugeVec::new(Opts::new("degrees", "Größe in °C."), &["room"]).unwrap();
        for (room, value) in [("a", -12.5), ("b", 0.1 + 0.2), ("c", f64::NAN), ("d", -0.0)] {
            degrees.with_label_values(&[room]).set(value);
        }
        registry.register(Box::new(degrees)).unwrap();

        let opts = HistogramOpts::new("seconds", "Time.").const_label("z", "last");
        let seconds = HistogramVec::new(opts, &["path"]).unwrap();
        for (path, value) in [("/", 0.003), ("/", 77.7), ("/a\\b", 1e15)] {
            seconds.with_label_values(&[path]).observe(value);
        }
        registry.register(Box::new(seconds)).unwrap();

        let bare = IntCounter::new("bare_total", "No labels but the common ones.").unwrap();
        registry.register(Box::new(bare)).unwrap();

        let mut families = registry.gather();
        let mut sizes = summary("sizes", &[(0.5, 0.25), (0.99, 17.0), (1.0, 1e15)]);
        for metric in sizes.mut_metric() {
            metric.set_label(labels(&[("a", "b")]));
            metric.set_timestamp_ms(1_395_066_363_000);
        }
        families.push(sizes);
        families.push(histogram("by_hand", &[0.1, 1.0, 250.0]));
        families
    }

    fn gauge(name: &str, pairs: &[(&str, &str)], value: f64) -> MetricFamily {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_gauge(gauge);
        metric.set_label(labels(pairs));
        family(name, MetricType::GAUGE, metric)
    }

    fn histogram(name: &str, bounds: &[f64]) -> MetricFamily {
        let bucket = |bound: &f64| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(bounds.iter().map(bucket).collect());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        family(name, MetricType::HISTOGRAM, metric)
    }

    fn summary(name: &str, quantiles: &[(f64, f64)]) -> MetricFamily {
        let quantile = |(at, value): &(f64, f64)| {
            let mut quantile = Quantile::default();
            quantile.set_quantile(*at);
            quantile.set_value(*value);
            quantile
        };
        let mut summary = Summary::default();
        summary.set_quantile(quantiles.iter().map(quantile).collect());
        let mut metric = Metric::default();
        metric.set_summary(summary);
        family(name, MetricType::SUMMARY, metric)
    }

    fn family(name: &str, kind: MetricType, metric: Metric) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(name.to_string());
        family.set_field_type(kind);
        family.set_metric(vec![metric]);
        family
    }

    fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_string());
            pair.set_value(value.to_string());
            pair
        };
        pairs.iter().map(pair).collect()
    }
}
