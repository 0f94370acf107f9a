//! Where a body ends: lengths, transfer codings, chunks, trailers.

use super::List;

impl List {
    pub(super) fn transfer_codings(&mut self) {
        let end = b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for value in [
            b" chunked".as_slice(),
            b"chunked",
            b"\tchunked\t ",
            b" cHuNkEd",
            b" gzip",
            b" identity",
            b" xchunked",
            b" chunked1",
            b" gzip, chunked",
            b" identity, chunked",
            b"",
            b" ,",
            b" ,chunked",
            b" chunked,",
            b" chunked, chunked",
            b" chunked, gzip",
            b" chunked, identity",
            b" chunked;x=y",
            b" \"chunked\"",
            b" chunked\xa0",
            b" \x85chunked",
            b" \xffchunked",
            b" \x0bchunked",
            b" \x0cchunked",
            b" chunked\x0b",
            b" chunked\x0c",
            b" chunked\0",
            b" \0chunked",
            b" chun ked",
            b"\r\n chunked",
            b" chunked\r\n ,gzip",
            b" chunked\r\nTransfer-Encoding: chunked",
            b" chunked\r\nTransfer-Encoding: gzip",
            b" chunked\r\nTransfer-Encoding: identity",
            b" identity\r\nTransfer-Encoding: chunked",
            b" chunked\r\nTransfer-Encoding:",
            b" chunked\r\nContent-Length: 3",
            b" chunked\r\nContent-Length: 0",
            b" chunked\r\nContent-Length: x",
            b" identity\r\nContent-Length: 13",
        ] {
            self.post("Transfer-Encoding:", "Transfer-Encoding:", value, end);
        }
        for name in [
            "Transfer-Encoding :",
            "Transfer_Encoding:",
            "Transfer-Encoding\t:",
        ] {
            self.post(name, name, b" chunked", end);
        }
        for value in ["chunked", "gzip", "identity"] {
            let head = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {value}\r\n\r\n");
            let bytes = [head.as_bytes(), b"3\r\nabc\r\n0\r\n\r\n"].concat();
            self.add("HTTP/1.0, Transfer-Encoding: ", value.as_bytes(), bytes);
        }
        let bytes = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 13\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        self.add("HTTP/1.0, keep-alive, both lengths", b"", bytes.to_vec());
    }

    pub(super) fn lengths(&mut self) {
        let end = b"\r\n\r\n0123456789";
        for value in [
            b"10".as_slice(),
            b" 10 ",
            b"\t10",
            b" 010",
            b" 00000000000000000000010",
            b"",
            b" +10",
            b" -0",
            b" -10",
            b" 0x5",
            b" 0xa",
            b" 1_0",
            b" 1 0",
            b" 10,10",
            b" 10, 10",
            b" 10, 11",
            b" 10,",
            b" ,10",
            b" 10;",
            b" 10.0",
            b" 1e1",
            b" 18446744073709551615",
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
            b" 10\r\nContent-Length: 10",
            b" 10\r\nContent-Length: 11",
            b" 10\r\nContent-Length:",
            b" 0\r\nContent-Length: 10",
        ] {
            self.post("Content-Length:", "Content-Length:", value, end);
        }
        let end = b"\r\n\r\nGET /inner HTTP/1.1\r\nHost: h\r\n\r\n";
        for name in ["Content-Length :", "Content_Length:", "Content-Length\x0b:"] {
            let shown = name.escape_default().to_string();
            self.post(&shown, name, b" 32", end);
        }
    }

    pub(super) fn chunks(&mut self) {
        let field = "Transfer-Encoding: chunked\r\n\r\n";
        for size in [
            b"5".as_slice(),
            b"005",
            b"0000000000000005",
            b"5;a",
            b"5;a=b",
            b"5; a=b",
            b"5 ;\ta = b ; c=\"d \\\" ;e\"",
            b"5;a=\"\r\"",
            b"",
            b"0_5",
            b"+5",
            b"-1",
            b"0x5",
            b" 5",
            b"\t5",
            b"5 ",
            b"5\t",
            b"5\x0b",
            b"5 a",
            b"5;a;;",
            b"5;",
            b"5; ",
            b"5;=x",
            b"5;a=",
            b"5;a b",
            b"5;a=\"b",
            b"5;a=\"b\"c",
            b"5;a\0",
            b"5;a\rb",
            b"5;a\nb",
            b"5;\n",
            b"5;a\x7f",
            b"5;(",
            b"5;a=\xff",
            b"5 a=b",
            b"5,a",
            b"5.0",
            b"g",
            b"00000000000000005",
            b"10000000000000000",
            b"10000000000000005",
            b"fffffffffffffffff",
            b"ffffffffffffffff",
            b"\xd9\xa5",
        ] {
            self.post("chunk size ", field, size, b"\r\nhello\r\n0\r\n\r\n");
        }
        for chunks in [
            b"5\nhello\r\n0\r\n\r\n".as_slice(),
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\rhello\r\n0\r\n\r\n",
            b"5\r\n\nhello\r\n0\r\n\r\n",
            b"5;a\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello\rX0\r\n\r\n",
            b"5\r\nhello\n\r0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhell\r\n0\r\n\r\n",
            b"0\r\n\r\n",
            b"000\r\n\r\n",
            b"5\r\nhello\r\n0\n\n",
            b"5\r\nhello\r\n0\r\n\n",
            b"5\r\nhello\r\n0\n\r\n",
            b"5\r\nhello\r\n0\r\n\rX",
            b"5\r\nhello\r\n0\r\n\r\r\n",
            b"5\r\nhello\r\n0\r\n",
            b"5\r\nhello\r\n0;a=\"\n\"\r\n\r\n",
        ] {
            self.post("chunks ", field, chunks, b"");
        }
        let long = |extension: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(extension));
        for length in [1_000, 8_000, 64 * 1024] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}{}", long(length));
            let name = format!("chunk extension of {length} bytes");
            self.add(&name, b"", bytes.into_bytes());
        }
        let many = "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n".repeat(2_000);
        let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}{many}0\r\n\r\n");
        self.add(
            "2,000 chunks of a byte with extensions of 30",
            b"",
            bytes.into_bytes(),
        );
    }

    pub(super) fn trailers(&mut self) {
        for trailer in [
            b"X: y\r\n".as_slice(),
            b"X:\r\n",
            b"Content-Length: 3\r\n",
            b"Content-Length: x\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Host: a b\r\n",
            b"Authorization: x\r\nContent-Type: y\r\n",
            b"X\r\n",
            b": x\r\n",
            b"X : y\r\n",
            b"X: y\n",
            b"X: \0\r\n",
            b"X: y\rz\r\n",
            b"X: y\r\n folded\r\n",
            b"\xff: y\r\n",
            b" X: y\r\n",
        ] {
            let head = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
            self.post("trailer ", head, trailer, b"\r\n");
        }
        let field = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
        let many = "X: y\r\n".repeat(200);
        let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}{many}\r\n");
        self.add("200 trailers", b"", bytes.into_bytes());
    }
}
