//! GitHub's pages in the hands of a person with a browser.

use thirtyfour::prelude::*;

use super::Repo;

async fn press(driver: &WebDriver, what: &str) -> WebDriverResult<()> {
    driver.query(By::Css(what)).first().await?.click().await
}

/// Says who the person is, on the page that asks.
pub async fn sign_in(driver: &WebDriver, login: &str) -> WebDriverResult<()> {
    let field = driver.query(By::Css("input[name=login]")).first().await?;
    field.send_keys(login).await?;
    press(driver, "button[name=commit]").await
}

/// Lets an App know who the person is.
pub async fn authorize(driver: &WebDriver) -> WebDriverResult<()> {
    press(driver, "button[name=authorize][value='1']").await
}

/// Does not let it know.
pub async fn cancel(driver: &WebDriver) -> WebDriverResult<()> {
    press(driver, "button[name=authorize][value='0']").await
}

/// Makes the App of the manifest that the page shows.
pub async fn create_app(driver: &WebDriver) -> WebDriverResult<()> {
    press(driver, "button[name=create]").await
}

/// Takes one of several accounts to install an App on.
pub async fn choose_account(driver: &WebDriver, login: &str) -> WebDriverResult<()> {
    let link = driver.query(By::LinkText(login)).first().await?;
    link.click().await
}

/// Installs the App, or changes what it gets: these repositories, or all.
pub async fn install(driver: &WebDriver, on: Option<&[&Repo]>) -> WebDriverResult<()> {
    let target = if on.is_some() { "selected" } else { "all" };
    press(
        driver,
        &format!("input[name=install_target][value={target}]"),
    )
    .await?;
    for repository in on.into_iter().flatten() {
        let value = repository.id();
        press(
            driver,
            &format!("input[name=repository_ids][value='{value}']"),
        )
        .await?;
    }
    press(driver, "button[name=install]").await
}
