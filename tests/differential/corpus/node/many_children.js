const { spawn, spawnSync } = require("child_process");
const codes = [];
let left = 20;
for (let number = 0; number < 20; number++) {
  spawn("sh", ["-c", number % 3 ? `exit ${number}` : "kill -TERM $$"]).on("exit", (code, signal) => {
    codes[number] = code ?? signal;
    if (--left === 0) console.log(codes.join());
  });
}
console.log(spawnSync("sh", ["-c", "echo out; exit 3"]).status);
