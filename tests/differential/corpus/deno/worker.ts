const source = "self.onmessage = (e) => { self.postMessage(e.data * 2); self.close(); }";
const worker = new Worker("data:text/javascript," + encodeURIComponent(source), { type: "module" });
worker.onmessage = (event) => console.log("from worker", event.data);
worker.postMessage(21);
