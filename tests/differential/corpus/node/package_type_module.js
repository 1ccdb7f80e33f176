console.log(typeof require, import.meta.dirname);
