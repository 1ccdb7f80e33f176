interface Point { x: number; y: number }
enum Colour { Red = 'red' }
const point: Point = { x: 1, y: 2 };
console.log(point, Colour.Red, import.meta.path, import.meta.dir, import.meta.main, import.meta.file);
console.log(process.argv, Bun.argv, process.execArgv, Bun.main, process.cwd(), Object.keys(process.env).sort());
console.log(await Promise.resolve('top level await'), typeof require, Bun.version === process.versions.bun);
