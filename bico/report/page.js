// What every page begins with: its data, and two ways to its elements.
const data = JSON.parse(document.getElementById("data").textContent)
const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}
const chosen = (id) => document.getElementById(id)
