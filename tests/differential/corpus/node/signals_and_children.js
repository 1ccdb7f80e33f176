const { fork, spawn } = require("child_process");
if (process.argv[2]) {
  process.on("message", (value) => process.send(value * 2, () => process.disconnect()));
} else {
  const alive = setInterval(() => {}, 1000); // waiting for signals keeps no program going
  process.on("SIGUSR2", () => {
    console.log("SIGUSR2");
    setTimeout(() => process.kill(process.pid, "SIGTERM"), 5);
  });
  process.on("SIGTERM", () => {
    console.log("SIGTERM");
    const child = fork(__filename, ["child"]);
    child.on("message", (value) => console.log("message", value)).send(21);
    // Which of the two comes first is nobody's to say.
    let ended;
    let left = 2;
    const over = () => {
      if (--left) return;
      console.log("exit", ...ended);
      const sleeper = spawn("sleep", ["60"]);
      sleeper.on("exit", (...end) => {
        console.log(end);
        clearInterval(alive);
      });
      sleeper.kill("SIGKILL");
    };
    child.on("disconnect", over);
    child.on("exit", (...end) => {
      ended = end;
      over();
    });
  });
  process.kill(process.pid, "SIGUSR2");
}
