console.log(typeof require, __filename);
import('./main.cjs').then((m) => console.log(Object.keys(m)));
module.exports = { a: 1 };
