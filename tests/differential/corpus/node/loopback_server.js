const http = require("http");
const net = require("net");
const server = http.createServer((request, response) => {
  request.setEncoding("utf8");
  let text = "";
  request.on("data", (part) => (text += part)).on("end", () => response.end(text.toUpperCase()));
});
server.listen(0, "127.0.0.1", async () => {
  const { port } = server.address();
  const answers = await Promise.all(
    ["a", "b", "c"].map(
      (body) =>
        new Promise((done) => {
          const request = http.request({ port, host: "127.0.0.1", method: "POST" }, (response) => {
            response.setEncoding("utf8").on("data", done);
          });
          request.end(body);
        }),
    ),
  );
  console.log(answers);
  console.log(await (await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "fetched" })).text());
  net.connect(port, "127.0.0.1").end("GET / HTTP/1.0\r\n\r\n").resume().on("close", () => server.close(() => console.log("closed")));
});
