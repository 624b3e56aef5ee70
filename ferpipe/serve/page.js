// The script of the page, without a framework or other sites' files.

const LONGEST_SIDE = 640; // of camera frames that are sent, in pixels
const HISTORY = 20; // seconds of action units that are shown
const STRONGEST = 1.25; // intensity E
const GOOD = 0.5; // quality of a wireframe that lies on the face
const NARROWEST = 84; // of labels in the picture, in CSS pixels
const QUIET = 2; // seconds between two announcements of what the camera sees
const UNITS = {
  AU01: "inner brow raiser", AU02: "outer brow raiser", AU04: "brow lowerer",
  AU05: "upper lid raiser", AU06: "cheek raiser", AU07: "lid tightener",
  AU09: "nose wrinkler", AU10: "upper lip raiser", AU12: "lip corner puller",
  AU15: "lip corner depressor", AU17: "chin raiser", AU18: "lip pucker",
  AU20: "lip stretcher", AU24: "lip pressor", AU25: "lips part", AU26: "jaw drop",
  AU27: "mouth stretch", AU43: "eyes closed",
};

const element = (id) => document.getElementById(id);
const stage = element("stage");
const canvas = element("picture");

let facts = null; // what /v1/model told
let shown = null; // {picture, answer, mirrored}
let chosen = null; // number of the face whose numbers are shown
let waiting = null; // of the request that is under way: its AbortController
let camera = null; // what the camera needs while it runs
const history = new Map(); // face -> [{time, units}]

// The token, and requests to the server

const address = new URL(location.href);
if (address.searchParams.has("token")) {
  sessionStorage.setItem("token", address.searchParams.get("token"));
  address.searchParams.delete("token");
  window.history.replaceState(null, "", address);
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.status === 401) element("gate").hidden = false;
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(content.detail ?? `The server answered ${response.status}.`);
  }
  return content;
}

async function meet() {
  try {
    facts = await ask("v1/model");
  } catch (error) {
    if (element("gate").hidden) complain(error.message);
    return;
  }
  element("gate").hidden = true;
  complain("");
  const terms = facts.gives === "probabilities" ? "" : ", scores without probabilities";
  element("model").textContent = `${facts.name}: ${facts.classes.length} classes${terms}`;
  element("gives").textContent =
    facts.gives === "probabilities" ? "Expression" : "Expression (scores)";
  fill(element("scores"), facts.classes.map((name) => [name, "", name]), true);
  describe(facts.card);
  const units = Object.entries(UNITS).map(([unit, name]) => [unit, unit.slice(2), name]);
  fill(element("units"), units, false);
}

function describe(card) {
  const lines = Object.entries({ data: "Trained on", protocol: "Evaluated by", terms: "Terms" })
    .filter(([key]) => typeof card[key] === "string" && card[key])
    .flatMap(([key, title]) => [["dt", title], ["dd", card[key]]]);
  element("card").replaceChildren(...lines.map(([kind, text]) => {
    const line = document.createElement(kind);
    line.textContent = text;
    return line;
  }));
  element("about").hidden = !lines.length;
}

element("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", element("token").value.trim());
  meet().then(() => {
    if (!facts) complain("This is not the server's token.");
  });
});

function complain(sentence) {
  element("error").textContent = sentence;
  element("error").hidden = !sentence;
  if (sentence) element("error").scrollIntoView({ block: "nearest" });
}

// screen readers read aloud what comes to stand in "heard"
function say(sentence, aloud = true) {
  element("status").textContent = sentence;
  if (aloud) element("heard").textContent = sentence;
}

// Images

async function look(file) {
  stopCamera();
  complain("");
  if (!facts) await meet();
  if (!facts) return;
  if (file.size > facts.limits.body_bytes) {
    const most = Math.floor(facts.limits.body_bytes / 1e6);
    complain(`${file.name} is too large: this server takes images of up to ${most} MB.`);
    return;
  }
  waiting?.abort();
  const mine = (waiting = new AbortController());
  stage.classList.add("busy");
  say("Recognizing …");
  element("rate").textContent = "";
  const start = performance.now();
  try {
    const form = new FormData();
    form.append("file", file);
    const [answer, picture] = await Promise.all([
      ask("v1/predict", { method: "POST", body: form, signal: mine.signal }),
      createImageBitmap(file).catch(() => null), // kinds that this browser cannot show
    ]);
    show({ picture, answer, mirrored: false });
    const spent = performance.now() - start;
    say(summary(answer));
    element("rate").textContent = `answered in ${Math.round(spent)} ms`;
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    clear();
    complain(error.message.replace(/^upload:/, `${file.name}:`));
  } finally {
    if (waiting === mine) {
      waiting = null;
      stage.classList.remove("busy");
    }
  }
}

function summary(answer) {
  const { faces } = answer;
  if (!faces.length) return "No face was found.";
  if (faces.length === 1) return `One face: ${told(faces[0])}.`;
  return `${faces.length} faces: ${faces.map((face) => face.label ?? "unsure").join(", ")}.`;
}

function told(face) {
  const best = Math.max(...Object.values(face.scores));
  return `${face.label ?? "unsure"}, ${value(best)}`;
}

function value(score) {
  return facts.gives === "probabilities" ? `${Math.round(100 * score)} %` : decimal(score);
}

function decimal(number) {
  const rounded = Math.round(100 * number) / 100 || 0; // no -0.00
  return rounded.toFixed(2).replace("-", "−");
}

element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) look(file);
  event.target.value = ""; // the same file may be chosen again
});

document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) look(file);
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) stage.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) look(file);
  else complain("Only files can be dropped: save the image first, then drop it.");
});

// The camera

element("camera").addEventListener("click", () => {
  if (camera) stopCamera();
  else startCamera();
});

const REASONS = {
  NotAllowedError: "The browser blocks the camera: allow it, then try again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera sends no image: another program may be using it.",
};

async function startCamera() {
  complain("");
  if (!facts) await meet();
  if (!facts) return;
  if (!navigator.mediaDevices) {
    complain("Browsers allow the camera only for pages on this computer or over HTTPS.");
    return;
  }
  waiting?.abort();
  const mine = (camera = { video: document.createElement("video"), spare: newCanvas() });
  element("camera").classList.add("on");
  element("camera").textContent = "Stop camera";
  element("rate").textContent = "";
  say("Starting the camera …");
  try {
    const wanted = { width: { ideal: LONGEST_SIDE }, facingMode: "user" };
    mine.source = await navigator.mediaDevices.getUserMedia({ video: wanted });
    mine.video.srcObject = mine.source;
    mine.video.muted = true;
    mine.video.playsInline = true;
    await mine.video.play();
  } catch (error) {
    for (const track of mine.source?.getTracks() ?? []) track.stop();
    if (camera === mine) {
      stopCamera();
      complain(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    return;
  }
  if (camera !== mine) {
    for (const track of mine.source.getTracks()) track.stop();
    return;
  }
  connect(mine);
}

function newCanvas() {
  return document.createElement("canvas");
}

function connect(mine) {
  history.clear();
  const token = sessionStorage.getItem("token");
  const url = new URL("v1/stream", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (token) url.searchParams.set("token", token);
  mine.socket = new WebSocket(url);
  mine.start = performance.now();
  mine.socket.onopen = () => send(mine);
  mine.socket.onmessage = (event) => receive(mine, JSON.parse(event.data));
  mine.socket.onclose = (event) => {
    if (camera !== mine) return;
    stopCamera();
    complain(event.reason || "The server closed the connection. Is it still running?");
  };
}

async function send(mine) {
  if (camera !== mine) return;
  await newFrame(mine.video);
  const { videoWidth, videoHeight } = mine.video;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
  mine.sent = mine.spare;
  mine.sent.width = Math.round(scale * videoWidth);
  mine.sent.height = Math.round(scale * videoHeight);
  const painter = mine.sent.getContext("2d");
  painter.drawImage(mine.video, 0, 0, mine.sent.width, mine.sent.height);
  const time = (performance.now() - mine.start) / 1000;
  const frame = await new Promise((done) => mine.sent.toBlob(done, "image/jpeg", 0.9));
  if (camera !== mine || mine.socket.readyState !== WebSocket.OPEN) return;
  mine.socket.send(JSON.stringify({ time }));
  mine.socket.send(frame);
}

function newFrame(video) {
  return new Promise((done) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
  });
}

function receive(mine, answer) {
  if (camera !== mine) return;
  if (answer.detail) {
    complain(answer.detail);
    setTimeout(send, 500, mine);
    return;
  }
  complain("");
  remember(answer);
  mine.spare = shown?.mirrored ? shown.picture : newCanvas();
  show({ picture: mine.sent, answer, mirrored: true });
  const now = performance.now() / 1000;
  if (mine.last) {
    const newest = now - mine.last;
    mine.interval = mine.interval ? 0.9 * mine.interval + 0.1 * newest : newest;
    const rate = 1 / mine.interval;
    const shownRate = rate < 10 ? rate.toFixed(1) : Math.round(rate);
    element("rate").textContent =
      `${shownRate} frames/s, ${Math.round(1000 * answer.seconds)} ms a frame`;
  }
  mine.last = now;
  const due = !(now - mine.told < QUIET);
  if (due) mine.told = now;
  say(summary(answer), due);
  send(mine);
}

function remember(answer) {
  for (const face of answer.faces) {
    const past = history.get(face.face) ?? [];
    past.push({ time: answer.time, units: face.quality < GOOD ? null : bothSides(face) });
    history.set(face.face, past);
  }
  for (const [face, past] of history) {
    while (past.length && past[0].time < answer.time - HISTORY) past.shift();
    if (!past.length) history.delete(face);
  }
}

function stopCamera() {
  if (!camera) return;
  const { source, socket } = camera;
  camera = null;
  for (const track of source?.getTracks() ?? []) track.stop();
  socket?.close();
  element("camera").classList.remove("on");
  element("camera").textContent = "Use camera";
  element("rate").textContent = "";
  say("");
}

// What is shown

function show(next) {
  shown = next;
  const { faces } = shown.answer;
  if (!faces.some((face) => face.face === chosen)) chosen = faces[0]?.face ?? null;
  canvas.hidden = false;
  element("invitation").hidden = true;
  canvas.setAttribute("aria-label", `The image. ${summary(shown.answer)}`);
  offer(faces);
  element("answer").hidden = !faces.length && !shown.mirrored;
  showNumbers();
  draw();
}

function clear() {
  shown = null;
  canvas.hidden = true;
  element("invitation").hidden = false;
  element("answer").hidden = true;
}

function offer(faces) {
  element("faces").hidden = faces.length < 2;
  const choices = element("choices");
  const numbers = faces.map((face) => face.face).join();
  if (choices.dataset.numbers !== numbers) {
    choices.dataset.numbers = numbers;
    choices.replaceChildren(...faces.map(choice));
  }
  for (const [index, face] of faces.entries()) {
    const label = choices.children[index];
    label.lastChild.textContent = `${face.face + 1}: ${face.label ?? "unsure"}`;
    label.firstChild.checked = face.face === chosen;
  }
}

function choice(face) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "face";
  input.addEventListener("change", () => choose(face.face));
  label.append(input, "");
  return label;
}

function choose(face) {
  chosen = face;
  show(shown);
}

canvas.addEventListener("click", (event) => {
  const x = event.offsetX / canvas.clientWidth * shown.answer.width;
  const y = event.offsetY / canvas.clientHeight * shown.answer.height;
  for (const face of shown.answer.faces) {
    const { left, top, width, height } = place(face.box);
    if (x > left && x < left + width && y > top && y < top + height) choose(face.face);
  }
});

function place(box) {
  const left = shown.mirrored ? shown.answer.width - box.x - box.width : box.x;
  return { left, top: box.y, width: box.width, height: box.height };
}

// Numbers

function fill(body, rows, asBars) {
  body.replaceChildren(...rows.map(([key, number, name]) => {
    const row = document.createElement("tr");
    row.dataset.key = key;
    const head = document.createElement("th");
    head.scope = "row";
    if (number) {
      const small = document.createElement("small");
      small.textContent = number;
      head.append(small);
    }
    head.append(name);
    const drawn = document.createElement("td");
    drawn.setAttribute("aria-hidden", "true");
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(document.createElement("div"));
    drawn.append(bar);
    if (!asBars) {
      const curve = newCanvas();
      curve.hidden = true;
      drawn.append(curve);
    }
    row.append(head, drawn, document.createElement("td"));
    return row;
  }));
}

function showNumbers() {
  const face = shown.answer.faces.find((one) => one.face === chosen);
  const all = facts.gives === "probabilities" || !face ? [0, 1] : Object.values(face.scores);
  const least = Math.min(...all);
  const whole = Math.max(...all) - least || 1;
  for (const row of element("scores").rows) {
    const score = face?.scores[row.dataset.key];
    row.classList.toggle("best", face?.label === row.dataset.key);
    setRow(row, face && score - least, whole, face ? value(score) : "");
  }
  const good = face && face.quality >= GOOD;
  const units = good ? bothSides(face) : {};
  element("poor").hidden = !face || good;
  element("span").textContent = shown.mirrored ? `over the last ${HISTORY} s` : "";
  for (const row of element("units").rows) {
    const strength = units[row.dataset.key];
    setRow(row, strength, STRONGEST, strength === undefined ? "" : decimal(strength));
    const [bar, curve] = row.cells[1].children;
    bar.hidden = shown.mirrored;
    curve.hidden = !shown.mirrored;
    if (shown.mirrored) drawCurve(curve, row.dataset.key);
  }
  element("pose").textContent = good ? `Head ${turned(face.pose)}.` : "";
}

function setRow(row, number, whole, text) {
  const share = Math.min(Math.max((number ?? 0) / whole, 0), 1);
  row.cells[1].firstChild.firstChild.style.width = `${100 * share}%`;
  row.cells[2].textContent = text;
}

function bothSides(face) {
  const sides = {};
  for (const [name, strength] of Object.entries(face.action_units)) {
    (sides[name.slice(0, 4)] ??= []).push(strength);
  }
  return Object.fromEntries(Object.entries(sides).map(
    ([unit, both]) => [unit, both.reduce((sum, one) => sum + one, 0) / both.length],
  ));
}

function turned(pose) {
  const parts = [
    [-pose.rx, "up", "down"],
    [-pose.ry, "to its right", "to its left"],
    [pose.rz, "tilted to its right", "tilted to its left"],
  ];
  const turns = parts.flatMap(([angle, plus, minus]) => {
    const degrees = Math.round(Math.abs(angle) * 180 / Math.PI);
    return degrees ? [`${degrees}° ${angle < 0 ? minus : plus}`] : [];
  });
  return turns.join(", ") || "upright, facing the camera";
}

function drawCurve(curve, unit) {
  const ratio = devicePixelRatio;
  const width = (curve.width = Math.round(curve.clientWidth * ratio));
  const height = (curve.height = Math.round(curve.clientHeight * ratio));
  const painter = curve.getContext("2d");
  const colors = getComputedStyle(curve);
  const floor = height - ratio;
  painter.fillStyle = colors.getPropertyValue("--track");
  painter.fillRect(0, floor, width, ratio);
  painter.strokeStyle = colors.color;
  painter.lineWidth = 1.5 * ratio;
  painter.lineJoin = "round";
  painter.beginPath();
  let broken = true;
  const { time: now } = shown.answer;
  for (const { time, units } of history.get(chosen) ?? []) {
    if (units) {
      const x = width * (1 - (now - time) / HISTORY);
      const share = Math.min(Math.max(units[unit] / STRONGEST, 0), 1);
      painter[broken ? "moveTo" : "lineTo"](x, floor - share * (floor - 2 * ratio));
    }
    broken = !units;
  }
  painter.stroke();
}

// The picture

function draw() {
  if (!shown) return;
  const { answer, picture, mirrored } = shown;
  const room = stage.clientWidth;
  const highest = Math.max(280, 0.72 * innerHeight);
  // small images are enlarged, but not to mud
  const scale = Math.min(room / answer.width, highest / answer.height, 3);
  const ratio = devicePixelRatio;
  canvas.width = Math.round(answer.width * scale * ratio);
  canvas.height = Math.round(answer.height * scale * ratio);
  canvas.style.width = `${canvas.width / ratio}px`;
  canvas.style.height = `${canvas.height / ratio}px`;
  const painter = canvas.getContext("2d");
  const zoom = scale * ratio;
  painter.imageSmoothingQuality = "high";
  painter.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? canvas.width : 0, 0);
  if (picture) painter.drawImage(picture, 0, 0, canvas.width, canvas.height);
  painter.setTransform(1, 0, 0, 1, 0, 0);
  const x = (point) => zoom * (mirrored ? answer.width - point : point);
  for (const face of answer.faces) {
    if (element("mesh").checked && face.quality >= GOOD) drawMesh(painter, face, x, zoom, ratio);
  }
  for (const face of answer.faces) drawBox(painter, face, zoom, ratio);
}

function drawMesh(painter, face, x, zoom, ratio) {
  painter.beginPath();
  for (const corners of facts.triangles) {
    const [a, b, c] = corners.map((index) => face.wireframe[index]);
    // y points down: triangles that face the camera turn clockwise
    if ((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]) >= 0) continue;
    painter.moveTo(x(a[0]), zoom * a[1]);
    painter.lineTo(x(b[0]), zoom * b[1]);
    painter.lineTo(x(c[0]), zoom * c[1]);
    painter.closePath();
  }
  painter.lineJoin = "round";
  painter.lineWidth = 0.8 * ratio;
  painter.strokeStyle = "rgb(70 235 210 / 75%)";
  painter.stroke();
}

function drawBox(painter, face, zoom, ratio) {
  const { left, top, width, height } = place(face.box);
  const corners = [zoom * left, zoom * top, zoom * width, zoom * height];
  const thick = face.face === chosen ? 2.5 : 1.25;
  painter.lineJoin = "miter";
  painter.strokeStyle = "rgb(15 20 24 / 60%)";
  painter.lineWidth = (thick + 2) * ratio;
  painter.strokeRect(...corners);
  painter.strokeStyle = "white";
  painter.lineWidth = thick * ratio;
  painter.strokeRect(...corners);
  const many = shown.answer.faces.length > 1;
  painter.font = `600 ${13 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  const whole = `${many ? `${face.face + 1}: ` : ""}${face.label ?? "unsure"}`;
  const text = shortened(painter, whole, Math.max(corners[2], NARROWEST * ratio));
  const tall = 21 * ratio;
  const wide = painter.measureText(text).width + 12 * ratio;
  const inside = (start, size, most) => Math.min(Math.max(start, 0), Math.max(most - size, 0));
  const chipLeft = inside(corners[0] - ratio, wide, canvas.width);
  const chipTop = inside(corners[1] - tall, tall, canvas.height);
  painter.fillStyle = face.face === chosen ? "white" : "rgb(255 255 255 / 85%)";
  painter.fillRect(chipLeft, chipTop, wide, tall);
  painter.fillStyle = "#14181c";
  painter.textBaseline = "middle";
  painter.fillText(text, chipLeft + 6 * ratio, chipTop + tall / 2 + ratio / 2);
}

function shortened(painter, text, room) {
  if (painter.measureText(text).width <= room) return text;
  let kept = text;
  while (kept && painter.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function redraw() {
  if (!shown) return;
  showNumbers(); // curves are as wide as their cells, in the colors of the page
  draw();
}

element("mesh").addEventListener("change", draw);
new ResizeObserver(redraw).observe(stage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

meet();
