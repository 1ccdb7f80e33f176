import { part } from "./part.ts";
import fs from "node:fs";
console.log(JSON.stringify(await new Response(Deno.stdin.readable).text()), part);
await Deno.writeTextFile("out.txt", "written");
console.log([...Deno.readDirSync(".")].map((entry) => entry.name).sort(), fs.readFileSync("out.txt", "utf8"));
Deno.readTextFileSync("missing.txt");
