// Parts that all pages share: their data, access to elements, clips that enlarge, and clips that play synchronously.
const data = JSON.parse(document.getElementById("data").textContent)
const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}
const chosen = (id) => document.getElementById(id)
document.documentElement.style.setProperty("--aspect", data.aspect)
document.body.classList.toggle("small", data.small)

// A prompt in pieces. Words of a source are underlined in its colour.
const coloured = (pieces, sources) => pieces.map(([text, number]) => {
  if (number === null) return text
  const word = make("b", { textContent: text })
  word.style.borderColor = sources[number].colour
  return word
})

// A picture or a clip, with a text alternative. A tap enlarges it; another tap or Escape closes it. A clip
// has no source before `load`.
const medium = (file, label, still = false) => {
  const shown = still
    ? make("img", { src: file, alt: label })
    : make("video", { muted: true, playsInline: true, preload: "auto", ariaLabel: label })
  if (!still) {
    shown.file = file
    shown.onloadeddata = () => { if (!playing) seek(shown) }
    shown.oncanplay = shown.onended = () => begin(shown.closest(".group"))
    shown.onerror = () => { if (shown.hasAttribute("src")) chosen("unplayable").hidden = false }
  }
  const button = make("button", { type: "button", className: "media", ariaLabel: `Enlarge: ${label}` }, shown)
  button.onclick = () => button.classList.toggle("large")
  return button
}
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape") document.querySelector(".large")?.classList.remove("large")
})

// The clips of a group begin together, once all of them can, and again once all have ended. None is sought meanwhile.
let playing = true
const clipsOf = (place) => [...place.querySelectorAll("video[src]")].filter((video) => !video.error)
const seek = (clip) => { clip.currentTime = (Number(chosen("frame").value) + 0.5) / data.fps }
const begin = (group) => {
  const clips = group ? clipsOf(group) : []
  if (!playing || !clips.every((clip) => clip.ended || (clip.paused && clip.readyState > 2))) return
  for (const clip of clips) clip.play().catch(() => {})
}
const load = (group) => {
  for (const clip of group.querySelectorAll("video:not([src])")) clip.src = clip.file
}
const unload = (group) => {
  for (const clip of clipsOf(group)) {
    clip.removeAttribute("src")
    clip.load()
  }
}
// Browsers stop loading after some 75 clips, so only groups in sight have any.
const watch = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) isIntersecting ? load(target) : unload(target)
}, { rootMargin: "200px" })
const watchGroups = () => {
  watch.disconnect()
  document.querySelectorAll(".group").forEach((group) => watch.observe(group))
}
const play = (on) => {
  playing = on
  chosen("play").textContent = on ? "Pause" : "Play"
  if (on) document.querySelectorAll(".group").forEach(begin)
  else for (const clip of clipsOf(document)) clip.pause()
}
chosen("frame").max = data.frames - 1
chosen("play").onclick = () => play(!playing)
chosen("frame").oninput = () => {
  play(false)
  clipsOf(document).forEach(seek)
}
setInterval(() => {
  const clip = playing && clipsOf(document).find((clip) => !clip.paused)
  if (clip) chosen("frame").value = Math.floor(clip.currentTime * data.fps)
}, 1000 / data.fps)
