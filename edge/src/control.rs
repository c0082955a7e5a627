//! How the edge asks the control plane.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use crate::Config;
use crate::body::{RequestBody, ResponseBody, UpstreamBody};
use crate::forward::{self, Ready};
use crate::headers::Added;
use crate::pool::Pool;
use crate::sending::Sending;

/// Largest answer taken, in bytes: a snapshot of some 50,000 projects.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The control plane's internal surface, asked with the edge's role token.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    pool: Arc<Pool>,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl ControlPlane {
    /// Reads settings; asks nothing yet.
    pub(crate) fn new(config: &Config, pool: Arc<Pool>) -> anyhow::Result<Self> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", config.role_token()?))
                .context("the edge's role token holds characters that no token has")?;
        authorization.set_sensitive(true);
        Ok(Self {
            pool,
            host: HeaderValue::try_from(config.control_address()?)?,
            authorization,
        })
    }

    /// The status and body of the answer to a GET of `target`, which may take `longest`.
    pub(crate) async fn get(
        &self,
        target: &str,
        longest: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = self.request(Method::GET, target, RequestBody::empty())?;
        self.ask(request, longest).await
    }

    /// Posts `json` to `target`, which may take `longest`, and gives status and body of the answer.
    pub(crate) async fn post(
        &self,
        target: &str,
        json: Vec<u8>,
        longest: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let length = HeaderValue::from(json.len());
        let mut request = self.request(Method::POST, target, RequestBody::own(json.into()))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.ask(request, longest).await
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        body: RequestBody,
    ) -> anyhow::Result<Request<RequestBody>> {
        Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.host.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .body(body)
            .context("the request to the control plane is not valid")
    }

    async fn ask(
        &self,
        request: Request<RequestBody>,
        longest: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = async {
            let ready = Ready::get(&self.pool).await?;
            let (mut parts, body) = request.into_parts();
            let mut sending = Sending::new(&mut parts, &Added::none(), body);
            let response = forward::exchange(&self.pool, ready, &mut sending).await?;
            let status = response.status();
            let body = UpstreamBody::new(response.into_body());
            let text = read(body).await.context("the answer cannot be read")?;
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                bail!(
                    "the control plane refuses the edge's role token: give both the same BERTH_EDGE_TOKEN"
                );
            }
            Ok((status, text))
        };
        tokio::time::timeout(longest, answer)
            .await
            .context("the control plane does not answer")?
    }
}

async fn read(body: UpstreamBody) -> anyhow::Result<Bytes> {
    let body = ResponseBody::Upstream(Box::new(body));
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("{error}"),
    }
}
