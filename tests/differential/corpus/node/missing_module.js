console.log('before');
try { require('nope'); } catch (error) { console.log(error.code, error.requireStack); }
require('./not/here');
