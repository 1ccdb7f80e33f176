'use strict';
try { undeclared = 1; } catch (error) { console.log(error.message); }
console.log(this, (function () { return this; })());
