// The profiler interrupts the main thread by a signal.
const { Session } = require("inspector");
const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.start", () => {
  let sum = 0;
  const until = Date.now() + 60;
  while (Date.now() < until) sum += Math.sqrt(sum + 1);
  session.post("Profiler.stop", (error, { profile }) => {
    console.log(error, profile.samples.length > 3, profile.endTime > profile.startTime);
  });
});
