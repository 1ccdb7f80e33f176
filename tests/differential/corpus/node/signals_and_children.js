const { fork, spawn } = require("child_process");
if (process.argv[2]) {
  process.on("message", (value) => process.send(value * 2, () => process.disconnect()));
} else {
  process.on("SIGUSR2", () => console.log("SIGUSR2"));
  process.on("SIGTERM", () => {
    console.log("SIGTERM");
    const child = fork(__filename, ["child"]);
    child.on("message", (value) => console.log("message", value)).send(21);
    child.on("exit", (code, signal) => {
      console.log("exit", code, signal);
      const sleeper = spawn("sleep", ["60"]);
      sleeper.on("exit", (...end) => console.log(end));
      sleeper.kill("SIGKILL");
    });
  });
  process.kill(process.pid, "SIGUSR2");
  setTimeout(() => process.kill(process.pid, "SIGTERM"), 5);
  setTimeout(() => {}, 20);
}
