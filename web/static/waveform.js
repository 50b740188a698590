// Draws both sides of a recording above its player: who called above, who was called below. One seeks in it by mouse,
// finger and keyboard. Without this script, or where a recording has no waveform, the plain player is all there is.
//
//   <div class="player" data-waveform="/recordings/ID/waveform"
//        data-label="Recording: seek" data-caller="Caller" data-callee="Called">
//     <audio controls preload="none" src="/r/….mp3"></audio>
//   </div>
//   <script type="module" src="/static/waveform.js"></script>
//
// data-label names the slider, data-caller and data-callee its rows, in the page's language. The address gives
// {"seconds": 61.2, "slice_seconds": 0.05, "caller": [0…255, …], "callee": […]}: the peak of each slice. Players that
// come into the page later are given to show(). Colours: --wave, --wave-played and --wave-cursor in style.css.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 100;                       // units of the drawing; a slice is one unit wide
const STEP = 5, LEAP = 30;             // seconds, by arrow and by page keys
let drawings = 0;

export async function show(player) {
  const audio = player.querySelector("audio");
  if (!audio || player.querySelector(".waveform")) return;
  const answer = await fetch(player.dataset.waveform, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const wave = await answer.json();
  if (wave.caller.length && !player.querySelector(".waveform")) new Slider(player, audio, wave);
}

class Slider {
  #audio; #wave; #element; #played; #cursor; #pointer = null;

  constructor(player, audio, wave) {
    [this.#audio, this.#wave] = [audio, wave];
    this.#element = document.createElement("div");
    this.#element.className = "waveform";
    this.#element.tabIndex = 0;
    for (const [name, value] of Object.entries({
      role: "slider", "aria-label": player.dataset.label ?? "Recording: seek", "aria-orientation": "horizontal",
      "aria-valuemin": 0, "aria-valuemax": Math.round(this.#seconds),
    })) this.#element.setAttribute(name, value);
    this.#element.append(this.#draw(), label(player.dataset.caller ?? "Caller"), label(player.dataset.callee ?? "Called"));
    player.prepend(this.#element);
    for (const event of ["timeupdate", "seeking", "loadedmetadata", "durationchange", "ended"])
      audio.addEventListener(event, () => this.#follow());
    this.#element.addEventListener("keydown", (event) => this.#key(event));
    this.#element.addEventListener("pointerdown", (event) => this.#grasp(event));
    this.#element.addEventListener("pointermove", (event) => this.#drag(event));
    for (const event of ["pointerup", "pointercancel"])
      this.#element.addEventListener(event, () => { this.#pointer = null; });
    this.#follow();
  }

  // What the player found out, once it has looked at the file; it counts whole MP3 frames.
  get #seconds() {
    return Number.isFinite(this.#audio.duration) ? this.#audio.duration : this.#wave.seconds;
  }

  #draw() {
    const { caller, callee } = this.#wave;
    const loudest = Math.max(1, ...caller, ...callee);
    const shape = outline(caller, ROW / 2, loudest) + outline(callee, ROW * 1.5, loudest);
    const clip = `wave-played-${++drawings}`;
    const svg = made("svg", { viewBox: `0 0 ${caller.length} ${2 * ROW}`, preserveAspectRatio: "none", "aria-hidden": true });
    this.#played = made("rect", { x: 0, y: 0, width: 0, height: 2 * ROW });
    this.#cursor = made("line", { y1: 0, y2: 2 * ROW, class: "cursor", "vector-effect": "non-scaling-stroke" });
    const path = made("clipPath", { id: clip });
    path.append(this.#played);
    svg.append(path, made("path", { d: shape, class: "ahead" }),
      made("path", { d: shape, class: "played", "clip-path": `url(#${clip})` }), this.#cursor);
    return svg;
  }

  #follow() {
    const { currentTime } = this.#audio, seconds = this.#seconds;
    const place = Math.min(1, currentTime / seconds) * this.#wave.caller.length;
    this.#played.setAttribute("width", place);
    for (const end of ["x1", "x2"]) this.#cursor.setAttribute(end, place);
    this.#element.setAttribute("aria-valuemax", Math.round(seconds));
    this.#element.setAttribute("aria-valuenow", Math.round(currentTime));
    this.#element.setAttribute("aria-valuetext", `${clock(currentTime)} / ${clock(seconds)}`);
  }

  #seek(seconds) {
    this.#audio.currentTime = Math.max(0, Math.min(this.#seconds, seconds));
    this.#follow();                    // before anything is loaded, the player tells of no seeking
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const now = this.#audio.currentTime;
    const to = {
      ArrowLeft: now - STEP, ArrowDown: now - STEP, ArrowRight: now + STEP, ArrowUp: now + STEP,
      PageDown: now - LEAP, PageUp: now + LEAP, Home: 0, End: this.#seconds,
    }[event.key];
    if (to !== undefined) this.#seek(to);
    else if (event.key !== " ") return;
    else if (this.#audio.paused) this.#audio.play();
    else this.#audio.pause();
    event.preventDefault();
  }

  #grasp(event) {
    if (event.button !== 0) return;
    this.#pointer = event.pointerId;
    this.#element.setPointerCapture(event.pointerId);
    this.#drag(event);
  }

  #drag(event) {
    if (event.pointerId !== this.#pointer) return;
    const { left, width } = this.#element.getBoundingClientRect();
    this.#seek((event.clientX - left) / width * this.#seconds);
  }
}

// The peaks of one side as a closed shape around its middle; silence is a thin line.
function outline(peaks, middle, loudest) {
  const heights = peaks.map((peak) => Math.max(1, peak / loudest * (ROW / 2 - 4)));
  const above = heights.map((height, at) => `V${(middle - height).toFixed(1)}H${at + 1}`);
  const below = heights.map((height, at) => `V${(middle + height).toFixed(1)}H${at}`).reverse();
  return `M0 ${middle}${above.join("")}${below.join("")}Z`;
}

function made(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function label(text) {
  const element = document.createElement("span");
  element.textContent = text;
  element.setAttribute("aria-hidden", true);
  return element;
}

function clock(seconds) {
  const whole = Math.floor(seconds), two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

for (const player of document.querySelectorAll(".player[data-waveform]")) show(player).catch(() => {});
