// The search runs in a worker, which browsers refuse to pages that are opened from a folder. There, a hidden frame
// of the same page takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.inside = new Promise(ready => {
        const attach = () => {
          document.body.appendChild(frame)
          const inside = frame.contentWindow
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = inside.document.createElement("script")
          script.src = address
          script.onload = () => ready(inside)
          inside.document.body.appendChild(script)
        }
        document.body ? attach() : addEventListener("DOMContentLoaded", attach)
      })
    }
    postMessage(data) {
      this.inside.then(inside => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
