// Follows a deployment's log as it is written. The page holds the lines so far; this adds to them.
"use strict";
(() => {
  // Older lines leave the page beyond this many; the whole log is behind "Raw".
  const MOST_LINES = 5000;
  const RETRY_MS = 2000;
  const NEAR_END_PX = 40;

  const list = document.querySelector("[data-log]");
  if (!list) return;
  const empty = document.getElementById("log-empty");
  const stateText = document.getElementById("log-state");
  const pause = document.getElementById("log-pause");
  const newest = document.getElementById("log-newest");
  const announcer = document.getElementById("announce");

  let last = Number(list.dataset.after);
  let source = null;
  let paused = false;
  let over = false;
  let told = false;
  let waiting = [];
  let state = list.dataset.state;

  // A build's log is whole once the deployment is decided, a server's once it has ended.
  const whole = () => (list.dataset.stream === "build"
    ? !["queued", "building", "starting", "checking"].includes(state)
    : ["stopped", "failed", "canceled"].includes(state));

  const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
  const toEnd = () => { list.scrollTop = list.scrollHeight; };

  function element(line) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = line.at;
    time.title = line.at;
    time.textContent = line.at.slice(11, 23).replace("Z", "").padEnd(8, " ").slice(0, 8);
    const text = document.createElement("span");
    text.textContent = line.text;
    item.append(time, text);
    return item;
  }

  function show(lines) {
    if (lines.length === 0) return;
    const follow = atEnd();
    list.append(...lines.map(element));
    while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
    if (empty) empty.hidden = true;
    if (follow) toEnd();
    newest.hidden = atEnd();
  }

  function tell() {
    if (paused) stateText.textContent = waiting.length ? `Paused · ${waiting.length} new` : "Paused";
    else if (over) stateText.textContent = "Complete";
    else stateText.textContent = source && source.readyState === EventSource.OPEN ? "Following" : "Connecting …";
    pause.hidden = over && !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
  }

  // Lines come in bursts; they are put on the page once a frame.
  let scheduled = false;
  function flush() {
    scheduled = false;
    if (!paused) {
      show(waiting);
      waiting = [];
    }
    tell();
  }

  function connect() {
    told = false;
    const url = new URL(list.dataset.log, location.href);
    url.searchParams.set("after", String(last));
    source = new EventSource(url);
    source.addEventListener("open", tell);
    source.addEventListener("line", (event) => {
      const line = JSON.parse(event.data);
      if (line.sequence <= last) return;
      last = line.sequence;
      waiting.push(line);
      if (waiting.length > MOST_LINES) waiting.shift();
      if (!scheduled) {
        scheduled = true;
        requestAnimationFrame(flush);
      }
    });
    source.addEventListener("state", (event) => {
      const next = JSON.parse(event.data).state;
      told = true;
      if (next === state) return;
      state = next;
      announcer.textContent = `Deployment ${list.dataset.number} is ${next}.`;
      document.body.dispatchEvent(new CustomEvent("berth-state"));
    });
    source.addEventListener("end", () => {
      over = true;
      source.close();
      requestAnimationFrame(flush);
    });
    source.addEventListener("error", () => {
      // Not the browser's own reconnect: it would ask for lines that are here already.
      source.close();
      over = over || (told && whole());
      if (!over) setTimeout(connect, RETRY_MS);
      tell();
    });
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    flush();
  });
  newest.addEventListener("click", () => {
    toEnd();
    newest.hidden = true;
    list.focus();
  });
  list.addEventListener("scroll", () => { newest.hidden = atEnd(); }, { passive: true });

  toEnd();
  tell();
  connect();
})();
