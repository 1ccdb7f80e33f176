const { Worker, isMainThread } = require("worker_threads");
if (isMainThread) {
  new Worker(__filename).on("exit", (code) => {
    console.log("worker", code);
    process.exit(33);
  });
} else {
  setTimeout(() => process.exit(4), 5);
}
