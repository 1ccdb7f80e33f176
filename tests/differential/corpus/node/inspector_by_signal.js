// The thread that waits for SIGUSR1 starts the debugger's server.
process.on("exit", (code) => console.log("exit", code));
process.kill(process.pid, "SIGUSR1");
const { url } = require("inspector");
const waiting = setInterval(() => {
  if (url()) {
    console.log("listens");
    process.exit(0); // Node.js may start it once more after a close: it asks for it in two ways
  }
}, 5);
