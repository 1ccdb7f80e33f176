const path = require('path');
console.log(typeof require, typeof module, typeof exports, __filename, __dirname);
console.log(require.main === module, module.id, module.filename, module.parent, module.children, module.loaded);
console.log(module.paths, require.resolve.paths('x'), require.cache[__filename] === module);
console.log(Object.keys(require.cache), this === exports, require('./lib/part').value, module.children.length);
console.log(path.relative(__dirname, require.resolve('./lib/part')), typeof import('fs').then);
console.log(Object.keys(require.extensions), require.main.paths[0]);
