// What every page does: copy buttons that say so, and forms that are sent once.
"use strict";
(() => {
  const COPIED_MS = 2000;

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return;
    }
    // Over plain http the clipboard is only reachable through a selection.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("the browser refused");
  }

  // Only the word changes; what is copied is named after it for who listens.
  function say(button, word, done) {
    const label = button.firstChild;
    const before = button.dataset.word ?? label.textContent;
    button.dataset.word = before;
    label.textContent = word;
    button.classList.toggle("done", done);
    clearTimeout(Number(button.dataset.timer));
    button.dataset.timer = String(setTimeout(() => {
      label.textContent = before;
      button.classList.remove("done");
    }, COPIED_MS));
  }

  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-copy]") : null;
    if (!button) return;
    try {
      await copy(button.dataset.copy);
      say(button, "Copied", true);
    } catch {
      say(button, "Select and copy", false);
    }
  });

  // Copy buttons need this script, so they are hidden until it runs; also in what htmx brings.
  const reveal = (root) => {
    for (const button of root.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  };
  reveal(document);
  document.addEventListener("htmx:load", (event) => reveal(event.target));

  // A second click on a slow answer must not deploy twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button:not([type=button])")) button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
    }
  });
})();
