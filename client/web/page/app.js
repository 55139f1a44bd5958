// The page of `veilmatch web`. Everything it shows is set as text, never as markup.

const at = (id) => document.getElementById(id);
const KEY = "veilmatch-token";
const LOOK_EVERY_MS = 700;
const LOOK_SIDE = 640;

// Behind `#`, so that it was sent to nobody; out of the address, so that nobody reads it there.
if (location.hash.length > 1) {
  sessionStorage.setItem(KEY, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
let token = sessionStorage.getItem(KEY) ?? "";

const state = { stream: null, file: null, busy: false, task: "verify", over: false };
const OVER = { message: "The page's server has ended.", hint: "Start `veilmatch web` again, and open the address that it prints." };

class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.hint = error.hint ?? "";
    this.expected = error.expected;
    this.got = error.got;
    this.request = error.request_id;
  }
}

async function call(method, path, query = {}, body = undefined) {
  if (state.over) throw new Refused(OVER);
  const address = `/api/${path}?${new URLSearchParams(query)}`;
  let answer;
  try {
    answer = await fetch(address, { method, body, headers: { Authorization: `Bearer ${token}` } });
  } catch {
    end();
    throw new Refused(OVER);
  }
  const said = await answer.json();
  if (!answer.ok) throw new Refused(said.error);
  return said;
}

// Another user's program may listen at this port next, and is this page's own server for the browser. So nothing is sent
// any more once this one has ended: no photo, no name, no token.
function end() {
  state.over = true;
  token = "";
  sessionStorage.removeItem(KEY);
  clearInterval(state.parties);
  endCamera();
  at("problem").replaceChildren(element("strong", { text: OVER.message }), element("p", { text: OVER.hint }));
  at("problem").hidden = false;
}

async function untilTheEnd() {
  try {
    const answer = await fetch("/api/alive", { headers: { Authorization: `Bearer ${token}` } });
    for (const words = answer.body.getReader(); !(await words.read()).done; );
  } catch {
    // It was stopped at once.
  }
  end();
}

function element(name, { text, ...rest } = {}, ...inside) {
  const made = Object.assign(document.createElement(name), rest);
  if (text !== undefined) made.textContent = text;
  made.append(...inside);
  return made;
}

// -- the photo ----------------------------------------------------------------------------------

function blobOf(source, width, height, side, quality) {
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", quality));
}

function frame(side, quality) {
  const camera = at("camera");
  return camera.videoWidth ? blobOf(camera, camera.videoWidth, camera.videoHeight, side, quality) : null;
}

async function photo() {
  if (state.file) return state.file;
  const taken = state.stream && (await frame(4096, 0.95));
  if (!taken) throw new Refused({ message: "There is no photo yet.", hint: "Use the camera, or choose a file." });
  return taken;
}

function endCamera() {
  state.stream?.getTracks().forEach((track) => track.stop());
  state.stream = null;
  at("camera").hidden = true;
  at("use-camera").textContent = "Use the camera";
}

async function useCamera() {
  if (state.stream) {
    endCamera();
    at("nothing").hidden = Boolean(state.file);
    return;
  }
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    const hint = error.name === "NotAllowedError" ? "Allow this page the camera, or choose a file." : "Choose a file.";
    failed(new Refused({ message: "The camera cannot be used.", hint }));
    return;
  }
  state.file = null;
  at("chosen").hidden = at("nothing").hidden = true;
  const camera = at("camera");
  camera.srcObject = state.stream;
  camera.hidden = false;
  await camera.play();
  at("use-camera").textContent = "Stop the camera";
  look();
}

function useFile() {
  const [file] = at("file").files;
  if (!file) return;
  if (file.size > Number(at("file").dataset.most)) {
    failed(new Refused({ message: "The image file is too large.", hint: "Choose a smaller one." }));
    return;
  }
  endCamera();
  state.file = file;
  const shown = at("chosen");
  URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  shown.hidden = false;
  at("nothing").hidden = true;
  look();
}

async function look() {
  const of = state.stream ?? state.file;
  if (!of) return;
  try {
    const seen = state.busy ? null : await call("POST", "look", {}, state.file ?? (await frame(LOOK_SIDE, 0.8)));
    if (seen && of === (state.stream ?? state.file)) showQuality(seen);
  } catch (error) {
    if (of === (state.stream ?? state.file)) {
      showQuality({ good: false, reasons: [{ what: error.message, remedy: error.hint }], scores: {} });
    }
  }
  if (state.stream && of === state.stream) setTimeout(look, LOOK_EVERY_MS);
}

let lastQuality = "";
function showQuality({ good, reasons, scores }) {
  const list = at("scores").querySelector("ul");
  list.replaceChildren(
    ...Object.entries(scores).map(([name, value]) =>
      element("li", {}, element("span", { text: name.replaceAll("_", " ") }),
        element("meter", { min: 0, max: 100, low: 40, high: 60, optimum: 100, value, ariaLabel: name.replaceAll("_", " ") }),
        element("span", { text: String(value) }))),
  );
  at("scores").hidden = list.childElementCount === 0;
  // Read out when it changes, not with every picture of the camera.
  const now = JSON.stringify([good, reasons]);
  if (now === lastQuality) return;
  lastQuality = now;
  const lines = reasons.map(({ what, remedy }) => element("li", { text: what }, element("span", { text: remedy })));
  const words = good ? "✓ One face, good enough." : reasons.length ? "Not good enough yet:" : "";
  at("quality").replaceChildren(
    element("p", { text: words, className: good ? "good" : "" }),
    ...(lines.length ? [element("ul", { className: "reasons" }, ...lines)] : []),
  );
}

// -- the tasks ----------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
  }
  state.task = tab.dataset.task;
  at("panel").setAttribute("aria-labelledby", tab.id);
  at("go").textContent = tab.dataset.verb;
  at("name-field").hidden = tab.dataset.named !== "yes";
  at("result").replaceChildren();
  at("result").className = "";
}

function byArrow(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.currentTarget) + step + tabs.length) % tabs.length];
  choose(next);
  next.focus();
}

async function go(event) {
  event.preventDefault();
  if (state.busy) return;
  state.busy = at("go").disabled = true;
  at("result").className = "waiting";
  at("result").replaceChildren(element("p", { text: "Asking two organisations…" }));
  try {
    const taken = await photo();
    const query = at("name-field").hidden ? {} : { subject: at("name").value };
    const said = await call("POST", state.task, query, taken);
    const mark = said.yes ? "✓" : "✗";
    const time = said.seconds === undefined ? "" : `${said.seconds.toFixed(2)} s. `;
    at("result").className = said.yes ? "yes" : "no";
    at("result").replaceChildren(
      element("strong", { text: `${mark} ${said.words}` }),
      element("span", { text: `${time}Request ${said.request_id}`, className: "quiet" }),
    );
    await draw(said.views, taken);
  } catch (error) {
    failed(error);
  } finally {
    // Whatever came of it: servers see these questions, and must not see by them whether the probe was valid.
    if (state.task === "enrol" && at("people").childElementCount) list();
    await budgets();
    state.busy = at("go").disabled = false;
  }
}

function failed(error) {
  const more = [error.got && `found: ${error.got}`, error.expected && `expected: ${error.expected}`].filter(Boolean);
  at("result").className = "failed";
  at("result").replaceChildren(
    element("strong", { text: `! ${error.message}` }),
    element("p", { text: error.hint ?? "" }),
    ...more.map((text) => element("p", { text, className: "quiet" })),
    ...(error.request ? [element("p", { text: `Request ${error.request}`, className: "quiet" })] : []),
  );
}

async function draw(views, taken) {
  const own = URL.createObjectURL(taken);
  const cards = [
    element("li", {}, element("h3", { text: "this device" }),
      element("img", { src: own, alt: "your photo", onload: () => URL.revokeObjectURL(own) }),
      element("p", { text: "your photo, which does not leave it" })),
  ];
  for (const view of views) {
    const card = element("li", {}, element("h3", { text: view.party }));
    if (view.picture) {
      const picture = element("img", { src: view.picture, alt: view.alt });
      const isBit = view.alt === "0" || view.alt === "1";
      if (isBit || /^\d+ bits/.test(view.alt)) picture.className = isBit ? "strip one" : "strip";
      card.append(isBit ? element("div", { className: "bit" }, picture, element("b", { text: view.alt, ariaHidden: "true" })) : picture);
    }
    card.append(element("p", { text: view.words }));
    cards.push(card);
  }
  // Share ⊕ share = answer: the last three cards of a query.
  if (cards.length > 3) {
    cards.at(-2).dataset.sign = "⊕";
    cards.at(-1).dataset.sign = "=";
  }
  at("views").replaceChildren(...cards);
  at("seen").hidden = false;
}

// -- the parties and the people -----------------------------------------------------------------

const LEVELS = {
  all: "Every pair of them can serve.",
  reduced: "Two pairs of them can serve.",
  critical: "One pair is left, or stock that is not filled up: one more failure ends the service.",
  none: "No pair of them can serve.",
};

async function parties() {
  try {
    const { level, servers, troubles } = await call("GET", "parties");
    at("parties").replaceChildren(
      ...Object.entries(servers).map(([party, up]) =>
        element("li", { text: `${up ? "●" : "○"} ${party.toUpperCase()} ${up ? "answers" : "does not answer"}`, className: up ? "up" : "down" })),
    );
    if (at("level").textContent !== LEVELS[level]) at("level").textContent = LEVELS[level];
    at("troubles").replaceChildren(
      ...troubles.map(({ party, what, remedy }) => element("li", { text: `${party} ${what}: ${remedy}` })));
    at("problem").hidden = !state.over;
  } catch (error) {
    at("level").textContent = "It is not known how they are.";
    at("problem").replaceChildren(element("strong", { text: error.message }), element("p", { text: error.hint }));
    at("problem").hidden = false;
  }
}

const SPANS = { minute: "this minute", hour: "this hour", day: "today", month: "in these 30 days" };
const MEASURES = { requests: "requests", searches: "searches", bits: "answer bits" };

async function budgets() {
  try {
    const { pair, budgets: all } = await call("GET", "budgets");
    const both = pair ? pair.toUpperCase().split("").join(" and ") : "";
    at("budgets").replaceChildren(
      ...all.map(({ measure, window: span, limit, left }) =>
        element("li", {},
          element("span", { text: `${left.toLocaleString("en")} of ${limit.toLocaleString("en")} ${MEASURES[measure]} ${SPANS[span]}` }),
          element("meter", { min: 0, max: limit || 1, low: limit / 10, optimum: limit || 1, value: left,
            ariaLabel: `${MEASURES[measure]} left` }))));
    at("budgets-title").hidden = !all.length;
    at("budgets-title").textContent = `Left for this device at ${both}`;
  } catch {
    // Servers of before do not say; the page works without.
    at("budgets").replaceChildren();
    at("budgets-title").hidden = true;
  }
}

async function list() {
  try {
    const { subjects } = await call("GET", "subjects");
    at("names").replaceChildren(...subjects.map(({ subject }) => element("option", { value: subject })));
    at("people").replaceChildren(
      ...subjects.map(({ subject, templates }) => {
        const erase = element("button", { type: "button", text: "Erase", ariaLabel: `Erase ${subject}` });
        erase.addEventListener("click", () => eraseOne(subject, erase));
        const photos = templates === 1 ? "1 photo" : `${templates} photos`;
        return element("li", {}, element("span", { text: `${subject} (${photos})` }), erase);
      }),
    );
    if (!subjects.length) at("people").replaceChildren(element("li", { text: "Nobody yet." }));
  } catch (error) {
    at("people").replaceChildren(element("li", { text: `${error.message} ${error.hint ?? ""}` }));
  }
}

async function eraseOne(subject, button) {
  // A second press, so that nobody is erased by one that went astray.
  if (button.dataset.sure !== "yes") {
    button.dataset.sure = "yes";
    button.textContent = "Erase for good";
    return;
  }
  button.disabled = true;
  try {
    await call("POST", "erase", { subject });
  } catch (error) {
    failed(error);
  }
  await list();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", byArrow);
}
at("use-camera").addEventListener("click", useCamera);
at("file").addEventListener("change", useFile);
at("panel").addEventListener("submit", go);
at("list").addEventListener("click", list);
addEventListener("pagehide", endCamera);

try {
  const { device, gallery, threshold } = await call("GET", "device");
  at("device").textContent = `${device}, gallery ${gallery}, threshold ${threshold}`;
  untilTheEnd();
} catch (error) {
  at("problem").replaceChildren(element("strong", { text: error.message }), element("p", { text: error.hint }));
  at("problem").hidden = false;
}
await parties();
await budgets();
if (!state.over) state.parties = setInterval(parties, 10_000);
