// Workers for pages that are opened as files, where browsers refuse them: the search of the site
// runs its worker in a hidden frame instead.
(() => {
  if (location.protocol !== "file:") return;

  // Runs inside the frame, before the worker's script.
  const prepare = `
    window.postMessage = (data) => parent.postMessage(data, "*");
    window.importScripts = async (...urls) => {
      for (const url of urls) {
        await new Promise((resolve, reject) => {
          const script = document.createElement("script");
          Object.assign(script, { src: url, onload: resolve, onerror: reject });
          document.head.append(script);
        });
      }
    };`;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentDocument;
      inside.open();
      inside.write(`<body><script>${prepare}</script><script src="${url}"></script></body>`);
      inside.close();
      // Not before: opening the document removes the listeners of its window.
      this.ready = new Promise((resolve) => (this.frame.contentWindow.onload = resolve));
      this.receive = (event) => {
        if (event.source !== this.frame.contentWindow) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        this.onmessage?.(message);
      };
      window.addEventListener("message", this.receive);
    }

    postMessage(data) {
      this.ready.then(() => {
        const message = new MessageEvent("message", { data: structuredClone(data) });
        this.frame.contentWindow.dispatchEvent(message);
      });
    }

    terminate() {
      window.removeEventListener("message", this.receive);
      this.frame.remove();
    }
  }

  window.IFrameWorker = window.Worker = FrameWorker; // the first name is what the search looks for
})();
