//! GitHub's pages, as plain as a browser can use them.

/// Text inside a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A whole page.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}</html>"
    )
}

/// Fields that a person does not see.
pub fn hidden(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!(
            "<input type=hidden name=\"{name}\" value=\"{}\">",
            escape(value)
        )
    };
    fields.iter().map(field).collect()
}

/// Where people say who they are; nobody has a password here.
pub fn sign_in(return_to: &str) -> String {
    let fields = hidden(&[("return_to", return_to)]);
    page(
        "Sign in to GitHub",
        &format!(
            "<form method=post action=/session>{fields}<label>Username <input name=login autofocus></label>\
             <button name=commit value=sign_in>Sign in</button></form>"
        ),
    )
}

/// Whether a person lets an App know who they are.
pub fn consent(app: &str, login: &str, query: &str) -> String {
    let fields = hidden(&[("query", query)]);
    page(
        &format!("Authorize {app}"),
        &format!(
            "<p>{app} by its owner would like permission to verify your GitHub identity ({login}), know \
             which resources you can access, and act on your behalf.</p>\
             <form method=post action=/login/oauth/authorize>{fields}\
             <button name=authorize value=0>Cancel</button>\
             <button name=authorize value=1>Authorize {app}</button></form>",
            app = escape(app),
            login = escape(login),
        ),
    )
}

/// Before an App is made from a manifest; its name may still be changed.
pub fn manifest(key: &str, name: &str, shown: &str) -> String {
    let fields = hidden(&[("manifest_token", key)]);
    page(
        "Create GitHub App",
        &format!(
            "<form method=post action=/settings/apps/create>{fields}\
             <label>GitHub App name <input name=app_name value=\"{name}\"></label>\
             <pre>{shown}</pre>\
             <button name=create value=1>Create GitHub App</button></form>",
            name = escape(name),
            shown = escape(shown),
        ),
    )
}

/// What an account gives an App.
pub struct Choice<'a> {
    /// Where it is answered.
    pub action: &'a str,
    pub app: &'a str,
    pub account: &'a str,
    /// Returned to the App.
    pub state: &'a str,
    /// Number, name, and whether the App has it already.
    pub repositories: &'a [(u64, String, bool)],
    pub all: bool,
    pub installed: bool,
}

/// Which repositories an App gets.
pub fn repositories(choice: &Choice<'_>) -> String {
    let boxes: Vec<String> = choice
        .repositories
        .iter()
        .map(|(id, name, chosen)| {
            let checked = if *chosen { " checked" } else { "" };
            let name = escape(name);
            format!(
                "<label><input type=checkbox name=repository_ids value={id}{checked}> {name}</label><br>"
            )
        })
        .collect();
    let (all, some) = if choice.all {
        (" checked", "")
    } else {
        ("", " checked")
    };
    let verb = if choice.installed { "Save" } else { "Install" };
    page(
        &format!("{verb} {} on {}", choice.app, choice.account),
        &format!(
            "<form method=post action=\"{}\">{}\
             <label><input type=radio name=install_target value=all{all}> All repositories</label>\
             <label><input type=radio name=install_target value=selected{some}> Only select repositories</label>\
             <p>{}</p><button name=install value=1>{verb}</button></form>",
            escape(choice.action),
            hidden(&[("state", choice.state), ("account", choice.account)]),
            boxes.concat(),
        ),
    )
}

/// Where an App may be installed: the person's own account and their organizations.
pub fn accounts(app: &str, links: &[(String, String)]) -> String {
    let links: Vec<String> = links
        .iter()
        .map(|(login, url)| format!("<p><a href=\"{}\">{}</a></p>", escape(url), escape(login)))
        .collect();
    page(&format!("Install {app}"), &links.concat())
}
