//! An HTTP/1.1 request as it stands in a file (RFC 9112).

use http::{HeaderName, HeaderValue, Method, Request};

/// The most headers that a request may have.
const MAX_HEADERS: usize = 256;

/// Reads a request: request line, headers, an empty line, body. Lines may end in LF alone,
/// as editors write them. With a `content-length` the body ends there, else with the file.
///
/// # Errors
///
/// What is wrong with it, in words.
pub(crate) fn parse(bytes: &[u8]) -> Result<Request<Vec<u8>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let body_start = match parsed.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => {
            return Err("it ends within its headers: put an empty line after them".to_owned());
        }
    };
    let method = parsed.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let target = parsed.path.unwrap_or_default();
    let mut request = Request::builder().method(method).uri(target);
    for header in parsed.headers.iter() {
        let name =
            HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| error.to_string())?;
        request = request.header(name, value);
    }
    let mut body = bytes.get(body_start..).unwrap_or_default();
    let headers = request.headers_ref();
    let header = |name| headers.and_then(|headers| headers.get(name));
    if header(http::header::TRANSFER_ENCODING).is_some() {
        return Err("it has a transfer-encoding: give the body as it is, without".to_owned());
    }
    if let Some(length) = header(http::header::CONTENT_LENGTH) {
        let length = length
            .to_str()
            .ok()
            .and_then(|length| length.parse::<usize>().ok());
        let length = length.ok_or("its content-length is no number")?;
        body = body.get(..length).ok_or_else(|| {
            format!(
                "its content-length is {length}, and the body has {} bytes",
                body.len()
            )
        })?;
    }
    let body = body.to_vec();
    request.body(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_editors_write_them() {
        let request =
            parse(b"POST /a%20b?q=1 HTTP/1.1\nHost: x\nX-A: 1\nX-A: 2\n\nbody\n").unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().path(), "/a%20b");
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(request.body(), b"body\n");
        let request = parse(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody\n").unwrap();
        assert_eq!(request.body(), b"body");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "empty line"),
            ("GET / HTTP/1.1\nHost: x\n", "empty line"),
            ("GET /\n\n", "token"),
            ("GET / HTTP/1.1\nno colon\n\n", "header name"),
            (
                "GET / HTTP/1.1\nContent-Length: 9\n\nbody",
                "content-length is 9",
            ),
            ("GET / HTTP/1.1\nContent-Length: x\n\nbody", "no number"),
            (
                "GET / HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n",
                "transfer-encoding",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.to_lowercase().contains(expected), "{text:?}: {error}");
        }
        let many = format!("GET / HTTP/1.1\n{}\n", "a: b\n".repeat(MAX_HEADERS + 1));
        assert!(parse(many.as_bytes()).is_err());
    }
}
