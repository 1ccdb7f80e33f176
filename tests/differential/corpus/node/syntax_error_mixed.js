import fs from 'fs';
const x = require('path');
console.log(x);
