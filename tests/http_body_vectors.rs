//! Request bodies as bytes: lengths, transfer codings and chunks, however the network cuts them.

mod vectors;

use vectors::Vectors;

/// F-25, W-44. RFC 9112, 6.1 and 6.3.
#[test]
fn transfer_codings_are_chunked_or_refused() {
    let vectors = Vectors::new();
    let post = |version: &str, value: &[u8]| {
        let head = format!("POST / {version}\r\nHost: h\r\nTransfer-Encoding:");
        [head.as_bytes(), value, b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"].concat()
    };
    for value in [" chunked", "chunked", "\tchunked\t ", " cHuNkEd"] {
        vectors.takes("POST / abc", post("HTTP/1.1", value.as_bytes()));
    }
    for value in [
        " gzip",
        " identity",
        " xchunked",
        " gzip, chunked",
        " chunked1",
        " br,gzip",
    ] {
        vectors.refuses(501, post("HTTP/1.1", value.as_bytes()));
    }
    for value in [
        b"".as_slice(),
        b" ,",
        b" ,chunked",
        b" chunked,",
        b" chunked, chunked",
        b" chunked, gzip",
        b" chunked;x=y",
        b" \"chunked\"",
        b" chunked\xa0",
        b" \x85chunked",
        b" \xffchunked",
        b" \x0bchunked",
        b" \x0cchunked",
        b" \0chunked",
        b" chunked\x0c",
        b" chunked\0",
        b" chun ked",
        b"\r\n chunked",
        b" chunked\r\n ,gzip",
        b" chunked\r\nTransfer-Encoding:",
        b" chunked\r\nTransfer-Encoding: identity",
        b" chunked\r\nContent-Length: x",
        b" chunked\r\nTransfer-Encoding: chunked",
        b" chunked\r\nTransfer-Encoding: gzip",
        b" chunked\r\nContent-Length: 3",
        b" chunked\r\nContent-Length: 0",
    ] {
        vectors.refuses(400, post("HTTP/1.1", value));
    }
    vectors.refuses(400, post("HTTP/1.0", b" chunked"));
    vectors.refuses(400, post("HTTP/1.0", b" gzip"));
}

/// W-44. RFC 9112, 6.3.
#[test]
fn lengths_are_decimal_numbers() {
    let vectors = Vectors::new();
    let post = |value: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:".as_slice();
        [head, value, b"\r\n\r\n0123456789"].concat()
    };
    for value in ["10", " 10 ", "\t10", " 010", " 00000000000000000000010"] {
        vectors.takes("POST / 0123456789", post(value.as_bytes()));
    }
    for value in [
        b"".as_slice(),
        b" +10",
        b" -0",
        b" -10",
        b" 0x5",
        b" 1_0",
        b" 1 0",
        b" 10,10",
        b" 10, 11",
        b" 10,",
        b" ,10",
        b" 10;",
        b" 10.0",
        b" 1e1",
        b" 18446744073709551616",
        b" 18446744073709551626",
        b" 99999999999999999999999",
        b" 10\xa0",
        b" \xd9\xa1\xd9\xa0",
        b" 10\x0b",
        b" \x0c10",
        b" 10\0",
        b"\r\n 10",
        b" 10\r\n ",
        b" 10\r\nContent-Length:",
        b" 0\r\nContent-Length: 10",
        b" 10\r\nContent-Length: 10",
        b" 10\r\nContent-Length: 11",
        b" 10\r\nTransfer-Encoding: chunked",
    ] {
        vectors.refuses(400, post(value));
    }
}

/// F-29, W-45. RFC 9112, 7.1.
#[test]
fn chunks_have_one_form() {
    let vectors = Vectors::new();
    let post = |chunks: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        [head, chunks].concat()
    };
    for chunks in [
        "5\r\nhello\r\n0\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n000\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b\r\n\r\n",
        "5 ;\ta = b ; c=\"d \\\" ;e\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\nHost: a b\r\n\r\n",
        "5\r\nhello\r\n0\r\nAuthorization: x\r\nContent-Type: y\r\nX:\r\n\r\n",
    ] {
        vectors.takes("POST / hello", post(chunks.as_bytes()));
    }
    for size in [
        b"".as_slice(),
        b"0_5",
        b"+5",
        b"-1",
        b"0x5",
        b" 5",
        b"5 ",
        b"5\t",
        b"5\x0b",
        b"\t5",
        b"5;\n",
        b"5 a",
        b"5;a;;",
        b"5;",
        b"5; ",
        b"5;=x",
        b"5;a=",
        b"5;a b",
        b"5;a=\"b",
        b"5;a=\"b\"c",
        b"5;a=\"\\",
        b"5;a\0",
        b"5;a\rb",
        b"5;a\x7f",
        b"5;(",
        b"5;a=\xff",
        b"5 a=b",
        b"5,a",
        b"5.0",
        b"g",
        b"00000000000000005",
        b"10000000000000000",
        b"fffffffffffffffff",
        b"\xd9\xa5",
    ] {
        vectors.refuses(400, post(&[size, b"\r\nhello\r\n0\r\n\r\n"].concat()));
    }
    for chunks in [
        b"5\nhello\r\n0\r\n\r\n".as_slice(),
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\rhello\r\n0\r\n\r\n",
        b"5\r\n\nhello\r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"5\r\nhello\n\r0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"5\r\nhello\r\n0;a=\"\n\"\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\n: x\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\rz\r\n\r\n",
        b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\xff: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n folded\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rX",
    ] {
        vectors.refuses(400, post(chunks));
    }
}

/// F-29. What is not content is worth less than what is: the work for a byte of it is bounded.
#[test]
fn chunk_framing_is_bounded_by_the_content() {
    let vectors = Vectors::new();
    let post = |chunk: &str, count: usize| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(count))
    };
    let statuses = |bytes: String| vectors.send([bytes.as_bytes()]).statuses;
    // A megabyte of content in the smallest chunks is served.
    assert_eq!(statuses(post("1\r\nx\r\n", 1 << 20)), [200]);
    let extension = format!("1;{}\r\nx\r\n", "x".repeat(500));
    assert_eq!(statuses(post(&extension, 30)), [200]);
    assert_eq!(statuses(post(&extension, 40)), [400]);
    assert_eq!(statuses(post("0000000000000001\r\nx\r\n", 10_000)), [400]);
    let long = format!("1;{}\r\nx\r\n", "x".repeat(64 * 1024));
    assert_eq!(statuses(post(&long, 1)), [400]);
}

/// Bodies are framed alike whatever the method (RFC 9112, 6).
#[test]
fn any_method_may_have_a_body() {
    let vectors = Vectors::new();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "X"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        vectors.takes(&format!("{method} / abc"), bytes);
    }
}
