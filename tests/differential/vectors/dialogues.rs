//! Requests in a row, bodies where none is expected, upgrades, and what is not complete.

use super::List;

impl List {
    pub(super) fn dialogues(&mut self) {
        for (name, bytes) in [
            (
                "a good request, then a bad one",
                "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nB ad: x\r\n\r\n",
            ),
            (
                "Connection: close, then more",
                "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            ),
            (
                "Connection: keep-alive, close, then more",
                "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n",
            ),
            ("HTTP/1.0, then more", "GET /a HTTP/1.0\r\n\r\n"),
            (
                "HTTP/1.0, Connection: keep-alive",
                "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ),
            (
                "HTTP/1.0, body and Connection: keep-alive",
                "POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
            ),
            (
                "early answer, and the body looks like a request",
                "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n\
                 GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
            ),
            (
                "early answer, and the chunk looks like a request",
                "POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 23\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n",
            ),
            (
                "Upgrade to websocket, and bytes behind it",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                "Upgrade to an unknown protocol",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x/1\r\n\r\n",
            ),
            (
                "Upgrade to h2c",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            ),
            (
                "Upgrade without Connection",
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                "Upgrade in HTTP/1.0",
                "GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                "Upgrade with a body",
                "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Content-Length: 3\r\n\r\nabc",
            ),
            (
                "CR LF behind a body",
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\n",
            ),
        ] {
            self.add(name, b"", bytes.as_bytes().to_vec());
        }
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "X"] {
            let bytes = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
            self.add("body of ", method.as_bytes(), bytes.into_bytes());
            let bytes = format!(
                "{method} / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n"
            );
            self.add("chunked body of ", method.as_bytes(), bytes.into_bytes());
        }
        for value in [
            "100-continue",
            "100-Continue",
            "",
            "100",
            "200-ok",
            "100-continue, x",
        ] {
            let end = "Content-Length: 3\r\n\r\nabc";
            let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\nExpect: {value}\r\n{end}");
            self.add(
                "body at once, Expect: ",
                value.as_bytes(),
                bytes.into_bytes(),
            );
        }
        let bytes = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\
            Content-Length: 3\r\n\r\nabc";
        self.add(
            "HTTP/1.0, Expect: 100-continue",
            b"",
            bytes.as_bytes().to_vec(),
        );
        let bytes = "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n";
        self.add(
            "no body, Expect: 100-continue",
            b"",
            bytes.as_bytes().to_vec(),
        );

        for (name, bytes) in [
            ("nothing", ""),
            ("half a request line", "GET / HT"),
            ("a head without its end", "GET / HTTP/1.1\r\nHost: h\r\n"),
            (
                "a body announced and not sent",
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
            ),
            (
                "a body sent in part",
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab",
            ),
            (
                "chunks without a last one",
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            ),
            (
                "a last chunk without its last line",
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n",
            ),
        ] {
            self.add("only ", name.as_bytes(), bytes.as_bytes().to_vec());
            self.0.last_mut().expect("it was added").is_followed = false;
        }
    }
}
