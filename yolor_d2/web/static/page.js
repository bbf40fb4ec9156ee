// The page: sends pictures to the server, and shows what it answers.

import { Item, cssColor, draw, percent, withCaption } from "./drawing.js";
import { canvasOf } from "./masks.js";

const element = (id) => document.getElementById(id);
const MAP_KEYS = { panoptic: "segments_info", semantic: "sem_seg" };
const PNG_SIDE = 1280; // pixels; smaller pictures are enlarged
const LEAST_SHARE = 0.01; // of the picture; smaller regions are not named

let card = null; // what the server tells about the network
let shown = null; // the picture and the prediction on the page
let request = new AbortController(); // of the picture that was chosen last

async function start() {
  const answer = await fetch("card");
  card = await answer.json();
  if (!answer.ok) throw new Error(card.error);
  showCard();
  buildControls();
  listen();
}

// The network

function showCard() {
  document.title = `${card.name} · yolor_d2`;
  element("name").textContent = card.name;
  const millions = (card.parameters / 1e6).toPrecision(3);
  element("facts").textContent = `${card.tasks.join(", ")} · ${millions} M parameters · ${card.device}`;
  element("limits").textContent = `${card.formats.join(", ")} up to ${megabytes(card.max_upload)}`;
  const kinds = { thing: "object classes", stuff: "semantic classes", panoptic: "panoptic classes" };
  const { thing = [], stuff = [], panoptic = [] } = card.classes;
  const isNew = namesOf(panoptic) !== namesOf(stuff);
  const tables = Object.entries({ thing, stuff, panoptic: isNew ? panoptic : [] })
    .filter(([, table]) => table.length);
  element("counts").textContent = tables.map(([kind, table]) => `${table.length} ${kinds[kind]}`).join(", ");
  element("about").hidden = !tables.length;
  for (const [kind, table] of tables) {
    element("classes").append(make("h2", { textContent: capitalized(kinds[kind]) }));
    for (const { name, color } of table) {
      element("classes").append(make("span", { className: "class" }, swatch(color), name));
    }
  }
  element("gallery").hidden = !card.examples.length;
  card.examples.forEach((name, number) => {
    const picture = make("img", { src: `examples/${number}/thumbnail`, alt: name, title: name });
    const button = make("button", { type: "button" }, picture);
    button.addEventListener("click", () => useExample(number, name));
    element("examples").append(make("li", {}, button));
  });
}

function namesOf(table) {
  return JSON.stringify(table.map(({ name }) => name));
}

function buildControls() {
  const layers = card.layers.filter((layer) => ["masks", "boxes", "labels"].includes(layer));
  for (const layer of layers) addChoice("layers", "checkbox", layer, true);
  const maps = ["panoptic", "semantic"].filter((map) => card.layers.includes(map));
  const hasObjects = layers.includes("boxes");
  element("maps").hidden = !maps.length;
  if (maps.length) {
    addChoice("maps", "radio", "none", hasObjects);
    maps.forEach((map, number) => addChoice("maps", "radio", map, !hasObjects && number === 0));
  }
  element("layers").querySelector("legend").textContent = hasObjects ? "Objects" : "Text";
  element("score").min = card.lowest_score;
  element("score-field").hidden = !hasObjects;
  element("view").hidden = !maps.length && !hasObjects;
  showValues();
}

function addChoice(group, type, name, checked) {
  const input = make("input", { type, name: group, value: name, checked });
  input.addEventListener("change", show);
  element(group).append(make("label", { className: "choice" }, input, make("span", { textContent: name })));
}

function listen() {
  const file = element("file");
  file.addEventListener("change", () => {
    if (file.files.length) predict(file.files[0], file.files[0].name);
    file.value = ""; // the same file can be chosen again
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) element("drop").classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    const [dropped] = event.dataTransfer.files;
    if (dropped) predict(dropped, dropped.name);
    else fail("Only files can be dropped here.");
  });
  addEventListener("paste", (event) => {
    const [pasted] = event.clipboardData.files;
    if (pasted) predict(pasted, pasted.name);
  });
  for (const id of ["score", "opacity"]) {
    element(id).addEventListener("input", () => { showValues(); show(); });
  }
  element("original").addEventListener("click", () => {
    shown.isOriginal = !shown.isOriginal;
    show();
  });
  element("picture").addEventListener("click", selectAt);
  addEventListener("keydown", (event) => { if (event.key === "Escape") select(null); });
  element("save-png").addEventListener("click", async () => save(await png(), "png"));
  element("save-json").addEventListener("click", () => save(json(), "json"));
  element("share").addEventListener("click", share);
  new ResizeObserver(() => shown && drawPicture()).observe(element("result"));
}

function showValues() {
  element("score-value").textContent = percent(element("score").valueAsNumber);
  element("opacity-value").textContent = percent(element("opacity").valueAsNumber);
}

// Predictions

async function useExample(number, name) {
  const chosen = restart(`Loading ${name} …`);
  try {
    const answer = await fetch(`examples/${number}`, { signal: chosen.signal });
    if (!answer.ok) throw new Error((await answer.json()).error);
    await predict(await answer.blob(), name);
  } catch (error) {
    if (!chosen.signal.aborted) fail(messageOf(error));
  }
}

async function predict(file, name) {
  const chosen = restart(`${name}: the network is working …`);
  if (file.size > card.max_upload) {
    fail(`${name} has ${megabytes(file.size)}; the limit is ${megabytes(card.max_upload)}.`);
    return;
  }
  // The untouched picture is shown at once, if the browser knows its format.
  const own = URL.createObjectURL(file);
  const loading = loadPicture(own).then((picture) => {
    if (!chosen.signal.aborted && !shown) showPicture(picture, name);
    return picture;
  }, () => null);
  try {
    const address = `predict?name=${encodeURIComponent(name)}`;
    const answer = await fetch(address, { method: "POST", body: file, signal: chosen.signal });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    const picture = content.picture ? await loadPicture(content.picture) : await loading;
    if (chosen.signal.aborted) return;
    if (!picture) throw new Error(`${name}: this browser cannot show the picture.`);
    showResult(picture, name, content);
  } catch (error) {
    if (!chosen.signal.aborted) fail(messageOf(error));
  } finally {
    loading.then(() => URL.revokeObjectURL(own));
  }
}

// Forget the last picture, and what the page said about it.
function restart(message) {
  request.abort();
  request = new AbortController();
  shown = null;
  for (const id of ["figure", "actions", "lists"]) element(id).hidden = true;
  element("caption").textContent = element("times").textContent = "";
  say(message);
  element("result").setAttribute("aria-busy", "true");
  if (matchMedia("(max-width: 46rem)").matches) element("result").scrollIntoView();
  return request;
}

function say(message, isError = false) {
  element("status").textContent = message;
  element("status").classList.toggle("error", isError);
}

function fail(message) {
  shown = null;
  for (const id of ["figure", "actions", "lists"]) element(id).hidden = true;
  element("result").setAttribute("aria-busy", "false");
  say(message, true);
}

function messageOf(error) {
  return error instanceof TypeError ? "The server does not answer." : error.message;
}

function loadPicture(address) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("This browser cannot show the picture."));
    picture.src = address;
  });
}

function showPicture(picture, name) {
  const size = { width: picture.naturalWidth, height: picture.naturalHeight };
  shown = { picture, name, size, objects: [], maps: {}, selected: null, isOriginal: true };
  element("figure").hidden = false;
  element("picture").setAttribute("aria-label", name);
  drawPicture();
}

function showResult(picture, name, { prediction, seconds }) {
  const size = { width: prediction.width, height: prediction.height };
  shown = { picture, name, size, prediction, seconds, maps: {}, selected: null, isOriginal: false };
  shown.objects = (prediction.instances ?? []).map((entry) => new Item(entry, colorOf("thing", entry)));
  shown.objects.sort((a, b) => b.score - a.score);
  for (const [map, key] of Object.entries(MAP_KEYS)) {
    if (!prediction[key]) continue;
    shown.maps[map] = prediction[key].map((entry) => regionOf(map, entry));
    shown.maps[map].sort((a, b) => b.entry.area - a.entry.area);
  }
  element("result").setAttribute("aria-busy", "false");
  for (const id of ["figure", "actions", "lists"]) element(id).hidden = false;
  element("caption").textContent = captionOf(prediction);
  element("share").hidden = !navigator.canShare?.({ files: [new File([], "x.png", { type: "image/png" })] });
  element("times").textContent = timesOf(prediction, seconds);
  show();
}

function regionOf(map, entry) {
  const kind = map === "semantic" ? "stuff" : card.classes.panoptic?.length ? "panoptic"
    : entry.isthing ? "thing" : "stuff";
  return new Item(entry, colorOf(kind, entry), true);
}

function colorOf(kind, entry) {
  const found = card.classes[kind]?.find(({ id }) => id === entry.category_id);
  return found?.color ?? [128, 128, 128];
}

function captionOf(prediction) {
  return prediction.caption ?? prediction.caption_ids?.join(" ") ?? "";
}

function timesOf({ width, height, scaled_from: from }, seconds) {
  const scaled = from ? `Scaled down from ${from.width} × ${from.height} to ` : "";
  const times = Object.entries(seconds).map(([step, time]) => `${step} ${Math.round(1000 * time)} ms`);
  return `${scaled}${width} × ${height} pixels · ${times.join(", ")}`;
}

// What is shown of a prediction

function show() {
  if (!shown?.prediction) return;
  if (shown.selected && !visible([shown.selected]).length) shown.selected = null;
  element("original").setAttribute("aria-pressed", String(shown.isOriginal));
  say(summary());
  drawPicture();
  listObjects();
  listRegions();
}

function visible(items) {
  const threshold = element("score").valueAsNumber;
  return items.filter(({ score }) => score === undefined || score >= threshold);
}

function checked(group) {
  return [...element(group).querySelectorAll("input:checked")].map(({ value }) => value);
}

function summary() {
  const { name, objects } = shown;
  if (!shown.prediction.instances) {
    const count = largeRegions("semantic").length;
    return count ? `${name}: ${counted(count, "area")}` : name;
  }
  const count = visible(objects).length, below = objects.length - count;
  const threshold = percent(element("score").valueAsNumber);
  if (count) return `${name}: ${counted(count, "object")}`;
  const more = below ? `, ${below} below: lower the score threshold to see them` : "";
  return `${name}: nothing was found with a score of at least ${threshold}${more}.`;
}

function currentView() {
  const none = { areas: [], boxes: [], labeled: [], opacity: 0, selected: null };
  if (shown.isOriginal) return none;
  const layers = checked("layers"), [map] = checked("maps");
  const objects = visible(shown.objects), regions = visible(shown.maps[map] ?? []);
  const large = visible(largeRegions(map));
  const masks = layers.includes("masks") ? objects : [];
  const boxes = layers.includes("boxes") ? objects : [];
  const isDrawn = masks.length || boxes.length;
  const named = isDrawn ? large.filter(({ entry }) => !isThing(entry)) : large;
  return {
    areas: [...regions, ...masks],
    boxes,
    labeled: layers.includes("labels") ? [...(isDrawn || !regions.length ? objects : []), ...named] : [],
    opacity: element("opacity").valueAsNumber,
    selected: shown.selected,
  };
}

function largeRegions(map) {
  return (shown.maps[map] ?? []).filter(({ entry }) => entry.area >= LEAST_SHARE * pixels());
}

function pixels() {
  return shown.size.width * shown.size.height;
}

// What the lists contain, in their order.
function listed() {
  return [...visible(shown.objects), ...largeRegions("semantic")];
}

// Whether a segment or region is of a class of objects, which have labels of their own.
function isThing(entry) {
  return entry.isthing ?? (card.classes.thing ?? []).some(({ name }) => name === entry.category_name);
}

function drawPicture() {
  const { size } = shown, canvas = element("picture");
  const room = element("stage").clientWidth, most = Math.max(240, 0.72 * innerHeight);
  const width = Math.max(1, Math.min(room, most * size.width / size.height));
  const unit = devicePixelRatio;
  canvas.style.width = `${width}px`;
  draw(canvas, shown.picture, size, width * unit / size.width, unit, currentView());
  canvas.setAttribute("aria-label", description());
}

function description() {
  if (!shown.prediction) return shown.name;
  const counts = new Map();
  for (const { name } of visible(shown.objects)) counts.set(name, (counts.get(name) ?? 0) + 1);
  const found = [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
  return [shown.name, found, captionOf(shown.prediction)].filter(Boolean).join(". ");
}

function listObjects() {
  const rows = visible(shown.objects).map((item) => {
    const [, , width, height] = item.box;
    return row(item, percent(item.score), `${Math.round(width)} × ${Math.round(height)}`);
  });
  const box = element("objects");
  if (!shown.prediction.instances) box.replaceChildren();
  else if (rows.length) box.replaceChildren(table(counted(rows.length, "object"), ["Class", "Score", "Pixels"], rows));
  else box.replaceChildren(make("p", { className: "none", textContent: "No objects." }));
}

function listRegions() {
  const rows = largeRegions("semantic").map((item) => row(item, percent(item.entry.area / pixels())));
  const title = `Areas of at least ${percent(LEAST_SHARE)}`;
  element("regions").replaceChildren(...(rows.length ? [table(title, ["Class", "Share"], rows)] : []));
}

function table(title, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text })));
  return make("table", {}, make("caption", { textContent: title }), make("thead", {}, head), make("tbody", {}, ...rows));
}

function row(item, ...cells) {
  const isSelected = item === shown.selected;
  const button = make("button", { type: "button" }, swatch(item.color), item.name);
  button.setAttribute("aria-pressed", String(isSelected));
  const line = make(
    "tr", { className: isSelected ? "selected" : "" },
    make("td", {}, button), ...cells.map((text) => make("td", { textContent: text })),
  );
  line.addEventListener("click", () => select(item === shown.selected ? null : item));
  return line;
}

// Put an item in the spotlight, or none; the focus stays on its row.
function select(item) {
  if (!shown?.prediction || item === shown.selected) return;
  const hadFocus = element("lists").contains(document.activeElement);
  const former = shown.selected;
  shown.selected = item;
  shown.isOriginal = false;
  show();
  const buttons = [...element("lists").querySelectorAll("td button")];
  const button = buttons[listed().indexOf(item ?? former)];
  if (hadFocus) button?.focus();
  else if (item) button?.scrollIntoView({ block: "nearest" });
}

function selectAt(event) {
  if (!shown?.prediction) return;
  const scale = shown.size.width / element("picture").clientWidth;
  const x = event.offsetX * scale, y = event.offsetY * scale;
  const here = listed().filter((item) => item.contains(x, y));
  here.sort((a, b) => a.isRegion - b.isRegion || a.box[2] * a.box[3] - b.box[2] * b.box[3]);
  select(here[0] === shown.selected ? null : here[0] ?? null);
}

// Files

async function png() {
  const { size } = shown;
  const scale = Math.max(1, PNG_SIDE / Math.max(size.width, size.height));
  const unit = Math.max(size.width, size.height) * scale / PNG_SIDE;
  const canvas = canvasOf(1, 1);
  draw(canvas, shown.picture, size, scale, unit, currentView());
  const whole = withCaption(canvas, captionOf(shown.prediction), unit);
  return new Promise((resolve) => whole.toBlob(resolve, "image/png"));
}

// The prediction above the score threshold.
function json() {
  const found = { ...shown.prediction };
  const threshold = element("score").valueAsNumber;
  for (const key of ["instances", "segments_info"]) {
    found[key] &&= found[key].filter(({ score }) => score === undefined || score >= threshold);
  }
  return new Blob([JSON.stringify(found)], { type: "application/json" });
}

function fileName(suffix) {
  return `${shown.name.replace(/\.[^.]*$/, "")}_prediction.${suffix}`;
}

function save(content, suffix) {
  const address = URL.createObjectURL(content);
  make("a", { href: address, download: fileName(suffix) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function share() {
  const file = new File([await png()], fileName("png"), { type: "image/png" });
  try {
    await navigator.share({ files: [file], text: captionOf(shown.prediction) });
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

// Small helpers

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch(color) {
  const made = make("span", { className: "swatch" });
  made.style.background = cssColor(color);
  return made;
}

function megabytes(bytes) {
  return `${Number((bytes / 1e6).toFixed(1))} MB`;
}

function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

function capitalized(text) {
  return text[0].toUpperCase() + text.slice(1);
}

start().catch((error) => fail(messageOf(error)));
