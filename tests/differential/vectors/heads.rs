//! Request lines, hosts and fields.

use super::List;

impl List {
    pub(super) fn request_lines(&mut self) {
        for line in [
            b"GET / HTTP/1.1".as_slice(),
            b"get / HTTP/1.1",
            b"M-SEARCH / HTTP/1.1",
            b"\"GET\" / HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /\tHTTP/1.1",
            b"GET / HTTP/1.1\t",
            b"GET /\x0bHTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GET / HTTP/1.1\rX: y",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.1\n",
            b"GET /",
            b"GET",
            b"GET / HTTP/1.2",
            b"GET / HTTP/1.9",
            b"GET / HTTP/1.32",
            b"GET / HTTP/1.01",
            b"GET / HTTP/01.1",
            b"GET / HTTP/4294967297.1",
            b"GET / HTTP/1.",
            b"GET / HTTP/1",
            b"GET / HTTP/.1",
            b"GET / HTTP/1,1",
            b"GET / HTTP/+1.1",
            b"GET / HTTP/1.1x",
            b"GET / HTTP/\r1.1",
            b"GET / http/1.1",
            b"GET / HTTPS/1.1",
            b"GET / HTTP/0.9",
            b"GET / HTTP/2.0",
            b"GET / HTTP/3.0",
            b"GET /a#b HTTP/1.1",
            b"GET /a\\b HTTP/1.1",
            b"GET /\xc3\xbc HTTP/1.1",
            b"GET /\xc0\xaf HTTP/1.1",
            b"GET /%C0%AF HTTP/1.1",
            b"GET /%ff HTTP/1.1",
            b"GET /%00 HTTP/1.1",
            b"GET /%0d%0a HTTP/1.1",
            b"GET /% HTTP/1.1",
            b"GET /%zz HTTP/1.1",
            b"GET /?q=100% HTTP/1.1",
            b"GET /?a\\b|c HTTP/1.1",
            b"GET /\0 HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\x0b HTTP/1.1",
            b"GET //host/path HTTP/1.1",
            b"GET /a/../b HTTP/1.1",
            b"GET /../a HTTP/1.1",
            b"GET http://h/a HTTP/1.1",
            b"GET http://other/a HTTP/1.1",
            b"GET HTTP://h:80 HTTP/1.1",
            b"GET http://h?q HTTP/1.1",
            b"GET https://[::1]/ HTTP/1.1",
            b"GET http:///a HTTP/1.1",
            b"GET http:// HTTP/1.1",
            b"GET http://user@h/ HTTP/1.1",
            b"GET http://a,b/ HTTP/1.1",
            b"GET http://h:x/ HTTP/1.1",
            b"GET http:/h/ HTTP/1.1",
            b"GET ftp://h/ HTTP/1.1",
            b"GET h/a HTTP/1.1",
            b"GET h:80 HTTP/1.1",
            b"GET * HTTP/1.1",
        ] {
            let bytes = [line, b"\r\nHost: h\r\n\r\n"].concat();
            self.add("line ", line, bytes);
        }
        for count in [1, 4, 5, 20] {
            let bytes = format!("{}GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n".repeat(count));
            self.add(
                &format!("{count} empty lines before"),
                b"",
                bytes.into_bytes(),
            );
        }
        let bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        self.add("preface of HTTP/2", b"", bytes);
        let bytes = b"GET http://h/ HTTP/1.1\r\nHost: h h\r\n\r\n".to_vec();
        self.add("absolute target and Host: h h", b"", bytes);
        let bytes = b"GET http://h/ HTTP/1.1\r\n\r\n".to_vec();
        self.add("absolute target without Host", b"", bytes);
        let bytes = b"GET http://h/ HTTP/1.1\r\nHost:\r\n\r\n".to_vec();
        self.add("absolute target with an empty Host", b"", bytes);
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000));
        self.add("target of 100,000 bytes", b"", long.into_bytes());
    }

    pub(super) fn hosts(&mut self) {
        for host in [
            b"example.org:8080".as_slice(),
            b"EXAMPLE.org.",
            b"h:",
            b"[::1]",
            b"[2001:db8::1]:8080",
            b"a_b-c.d~e",
            b"a%20b",
            b"h!$&'()*+;=",
            b"",
            b":80",
            b"h h",
            b"h\th",
            b"h:80a",
            b"h:+80",
            b"h:65536",
            b"h:80:80",
            b"::1",
            b"[::1",
            b"::1]",
            b"[]",
            b"[h]",
            b"[::1%25eth0]",
            b"[::1]80",
            b"[v1.a]",
            b"user@h",
            b"h/path",
            b"h?query",
            b"h#fragment",
            b"http://h",
            b"h,other",
            b"h, other",
            b"h%",
            b"h%zz",
            b"h<script>",
            b"h\"",
            b"h\\",
            b"h\xc3\xa4",
            b"h\xff",
            b"h^",
            b"h|",
            b"h..i",
            b"h\r\nHost: h",
            b"h\r\nHost: i",
            b"h\r\nhOST:",
        ] {
            let bytes = [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
            self.add("Host: ", host, bytes);
        }
        self.add("no Host", b"", b"GET / HTTP/1.1\r\n\r\n".to_vec());
        let bytes = b"GET / HTTP/1.0\r\nHost: h h\r\n\r\n".to_vec();
        self.add("HTTP/1.0, Host: h h", b"", bytes);
    }

    pub(super) fn fields(&mut self) {
        for field in [
            b"A:".as_slice(),
            b"A: \t b \t ",
            b"A: \x80\xff",
            b"!#$%&'*+-.^_`|~: x",
            b"A",
            b":",
            b": x",
            b"A : x",
            b"A\t: x",
            b" A: x",
            b"\tA: x",
            b"A: x\r\n folded",
            b"A: x\r\n\tfolded",
            b"A: x\r\n \r\nB: y",
            b"A\x80: x",
            b"\xff: x",
            b"A(: x",
            b"A/: x",
            b"A B: x",
            b"A\0: x",
            b"A\r: x",
            b"A: x\0",
            b"A: x\ry",
            b"A: x\x01",
            b"A: x\x0b",
            b"A: x\x7f",
            b"A: x\n",
            b"A: x\nB: y",
            b"\rX",
            b"A: x\r\r",
            b"A: x\r\n\rX",
        ] {
            let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\n", field, b"\r\n\r\n"].concat();
            self.add("field ", field, bytes);
        }
        for end in [
            b"\n\n".as_slice(),
            b"\r\n\n",
            b"\n\r\n",
            b"\r\r",
            b"\r\n\r\r\n",
            b"\r\n\rX\r\n",
        ] {
            let bytes = [b"GET / HTTP/1.1\r\nHost: h", end].concat();
            self.add("head ends in ", end, bytes);
        }
        let bytes = b"GET / HTTP/1.1\r\n Host: h\r\n\r\n".to_vec();
        self.add("blank before the first field", b"", bytes);
        let bytes = b"GET / HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n".to_vec();
        self.add("blank before a field that Host follows", b"", bytes);
        let many = "A: b\r\n".repeat(101);
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n");
        self.add("101 fields and Host", b"", bytes.into_bytes());
    }
}
