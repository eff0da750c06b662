//! Requests and responses.

use bytes::{Bytes, BytesMut};

use super::{FieldValue, Header, HeaderKey, HeaderName, Headers, Method, Uri, reason_phrase};

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

/// A request (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    pub headers: Headers,
    pub body: Bytes,
}

/// A response (RFC 3261 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase as received; may hold octets that are not UTF-8.
    pub reason: Bytes,
    pub headers: Headers,
    pub body: Bytes,
}

impl Message {
    /// The header fields.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }

    /// The message as it goes on the wire, see [`Request::to_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl Request {
    /// A request without header fields or body.
    #[must_use]
    pub const fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// The same with a field more at the end.
    #[must_use]
    pub fn with<'a>(mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) -> Self {
        self.headers.push(key, value);
        self
    }

    /// The same with a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// The request as it goes on the wire. Content-Length is always written: where it stands, or
    /// last; it is corrected when it is wrong.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1024 + self.body.len());
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.extend_from_slice(b" ");
        self.uri.write(&mut out);
        out.extend_from_slice(b" SIP/2.0\r\n");
        self.headers.write(&mut out, self.body.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        // What is kept to be sent again takes no more room than it is long.
        Bytes::copy_from_slice(&out)
    }
}

impl Response {
    /// A response to `request` (RFC 3261 §8.2.6): every Via, From, To, Call-ID and CSeq of it are
    /// copied, and Timestamp into a 100. `to_tag` is put into To when To has none yet; leave it
    /// out of a 100. Record-Route, which a dialog wants, is [`Response::copy_record_route`].
    #[must_use]
    pub fn to_request(request: &Request, status: u16, to_tag: Option<&str>) -> Self {
        Self::from_headers(&request.headers, status, to_tag)
    }

    pub(super) fn from_headers(request: &Headers, status: u16, to_tag: Option<&str>) -> Self {
        let mut headers = Vec::with_capacity(12);
        for field in request {
            match field.known {
                Some(HeaderName::To) => match (request.to(), to_tag) {
                    (Ok(mut to), Some(tag)) if to.tag().is_none() => {
                        to.set_tag(tag);
                        headers.push(Header::new(HeaderName::To, to));
                    }
                    _ => headers.push(field.clone()),
                },
                Some(
                    HeaderName::Via | HeaderName::From | HeaderName::CallId | HeaderName::CSeq,
                ) => headers.push(field.clone()),
                Some(HeaderName::Timestamp) if status == 100 => headers.push(field.clone()),
                _ => {}
            }
        }
        Self {
            status,
            reason: Bytes::from_static(reason_phrase(status).as_bytes()),
            headers: Headers::from_fields(headers),
            body: Bytes::new(),
        }
    }

    /// Copies Record-Route of the request, in order (RFC 3261 §12.1.1): for responses that make a
    /// dialog.
    #[must_use]
    pub fn copy_record_route(mut self, request: &Request) -> Self {
        self.headers
            .extend(request.headers.all(HeaderName::RecordRoute).cloned());
        self
    }

    /// The same with another reason phrase.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Self {
        self.reason = reason
            .bytes()
            .map(|octet| {
                if octet.is_ascii_control() {
                    b' '
                } else {
                    octet
                }
            })
            .collect();
        self
    }

    /// The same with a field more at the end.
    #[must_use]
    pub fn with<'a>(mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) -> Self {
        self.headers.push(key, value);
        self
    }

    /// The same with a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// Whether it is a 1xx.
    #[must_use]
    pub const fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// Whether it is a 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The response as it goes on the wire, see [`Request::to_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1024 + self.body.len());
        out.extend_from_slice(b"SIP/2.0 ");
        out.extend_from_slice(self.status.to_string().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        self.headers.write(&mut out, self.body.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        // What is kept to be sent again takes no more room than it is long.
        Bytes::copy_from_slice(&out)
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}
