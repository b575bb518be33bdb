// Improves the demonstration page: events are sent without leaving it, and
// what comes of them appears by itself. Without this module every button and
// link works by loading the page again.

const story = document.getElementById("story");
let stream;

// keepOpen carries what the reader opened and closed over to a new part.
function keepOpen(from, to) {
  for (const details of from.querySelectorAll("details[id]")) {
    const twin = to.querySelector(`#${details.id}`);
    if (twin) twin.open = details.open;
  }
}

// show puts a story's parts in place, only those that changed, so that frames
// do not load again and the focus stays.
function show(html) {
  const next = new DOMParser().parseFromString(html, "text/html");
  const parts = [...next.querySelectorAll("section[data-version]")];
  const ids = new Set(parts.map((part) => part.id));
  for (const old of [...story.querySelectorAll("section[data-version]")]) {
    if (!ids.has(old.id)) old.remove();
  }
  for (const part of parts) {
    const old = document.getElementById(part.id);
    if (old?.dataset.version === part.dataset.version) continue;
    const fresh = document.adoptNode(part);
    if (old) {
      keepOpen(old, fresh);
      old.replaceWith(fresh);
    } else {
      story.append(fresh);
    }
  }
}

function follow(event) {
  stream?.close();
  story.dataset.event = event;
  if (!event) return;
  stream = new EventSource(`/demo/live?event=${encodeURIComponent(event)}`);
  stream.addEventListener("story", (message) => show(JSON.parse(message.data)));
}

// enter shows a page that the server answered, in the place of this one.
function enter(html, url) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const main = page.getElementById("story");
  document.title = page.title;
  for (const note of story.querySelectorAll(":scope > .note, :scope > .problem")) note.remove();
  const note = main.querySelector(":scope > .note");
  if (note) story.prepend(document.adoptNode(note));
  show(main.innerHTML);
  document.getElementById("moments").replaceWith(document.adoptNode(page.getElementById("moments")));
  for (const button of document.querySelectorAll('button[value="again"]')) button.disabled = false;
  for (const field of document.querySelectorAll('input[name="event"]')) field.value = main.dataset.event;
  if (url) history.pushState(null, "", url);
  follow(main.dataset.event);
}

async function load(url, options, push) {
  const answer = await fetch(url, options);
  const text = await answer.text();
  if (!answer.headers.get("Content-Type")?.startsWith("text/html")) throw new Error(text.trim() || answer.statusText);
  enter(text, push ? answer.url : "");
}

function complain(error) {
  const p = document.createElement("p");
  p.className = "problem";
  p.setAttribute("role", "alert");
  p.textContent = error.message;
  story.prepend(p);
}

document.addEventListener("submit", async (submit) => {
  const form = submit.target;
  const button = submit.submitter;
  if (!form.matches("[data-live]") || !button) return;
  submit.preventDefault();
  button.setAttribute("aria-busy", "true");
  try {
    await load(form.action, { method: "POST", body: new URLSearchParams([[button.name, button.value]]) }, true);
  } catch (error) {
    complain(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
});

addEventListener("popstate", () => load(location.href, {}, false).catch(complain));

follow(story.dataset.event);
