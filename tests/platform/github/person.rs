//! A person with a browser that has no scripts: follows links and redirects, fills in forms, keeps
//! cookies of each site apart.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use url::Url;

/// Most redirects of one step: to GitHub, to its sign-in page, back, and within.
const REDIRECTS: usize = 10;

/// What they see.
#[derive(Debug)]
pub struct Page {
    /// Where.
    pub url: Url,
    /// The status.
    pub status: u16,
    /// The page's text.
    pub body: String,
}

/// The person.
pub struct Person {
    http: Client,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

impl Person {
    pub fn new() -> Result<Self> {
        Ok(Self {
            http: Client::builder()
                .redirect(Policy::none())
                .timeout(Duration::from_mins(1))
                .build()?,
            cookies: BTreeMap::new(),
        })
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) -> Result<Page> {
        let url = Url::parse(url)?;
        let request = self.http.get(url.clone());
        self.follow(url, request)
    }

    /// Fills in and sends the form whose action holds this, as it stands on a page.
    pub fn submit(&mut self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let (to, mut all) = page.form(action)?;
        all.extend(
            fields
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let origin = page.url.origin().ascii_serialization();
        let request = self
            .http
            .post(to.clone())
            .header("origin", origin)
            .form(&all);
        self.follow(to, request)
    }

    fn follow(&mut self, mut url: Url, mut request: RequestBuilder) -> Result<Page> {
        for _ in 0..REDIRECTS {
            let site = url.origin().ascii_serialization();
            let jar = self.cookies.entry(site.clone()).or_default();
            if !jar.is_empty() {
                let all: Vec<String> = jar.iter().map(|(k, v)| format!("{k}={v}")).collect();
                request = request.header("cookie", all.join("; "));
            }
            let answer = request.send()?;
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let text = cookie.to_str()?;
                let (pair, rest) = text.split_once(';').unwrap_or((text, ""));
                let (name, value) = pair.split_once('=').context("a cookie")?;
                if rest.contains("Max-Age=0") {
                    jar.remove(name);
                } else {
                    jar.insert(name.to_owned(), value.to_owned());
                }
            }
            let status = answer.status();
            if !status.is_redirection() {
                return Ok(Page {
                    url,
                    status: status.as_u16(),
                    body: answer.text()?,
                });
            }
            let to = answer.headers().get(LOCATION).context("no location")?;
            url = url.join(to.to_str()?)?;
            request = self.http.get(url.clone());
        }
        bail!("redirected over and over, at last to {url}")
    }
}

impl Page {
    /// The same, if it came as it should.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.status < 400,
            "{} {}: {}",
            self.status,
            self.url,
            self.body
        );
        Ok(self)
    }

    /// Where a form goes and what it holds unseen.
    fn form(&self, action: &str) -> Result<(Url, Vec<(String, String)>)> {
        let found = self.body.split("<form ").skip(1).find_map(|rest| {
            let form = rest.split("</form>").next()?;
            let to = attribute(form.split('>').next()?, "action")?;
            to.contains(action).then_some((to, form))
        });
        let (to, form) =
            found.with_context(|| format!("no form {action} at {}: {}", self.url, self.body))?;
        let hidden = form.split("<input ").skip(1).filter_map(|rest| {
            let tag = rest.split('>').next()?;
            (attribute(tag, "type")? == "hidden")
                .then(|| Some((attribute(tag, "name")?, attribute(tag, "value")?)))?
        });
        Ok((self.url.join(&to)?, hidden.collect()))
    }
}

/// An attribute's value, quoted or not.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}="))?;
    let value = match rest.strip_prefix('"') {
        Some(rest) => rest.split('"').next()?,
        None => rest.split_whitespace().next()?.trim_end_matches('>'),
    };
    let mut text = value.to_owned();
    for (escaped, plain) in [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ] {
        text = text.replace(escaped, plain);
    }
    Some(text)
}
