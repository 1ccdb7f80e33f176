console.log('before');
function fail(): never { throw new TypeError('uncaught', { cause: new Error('the cause') }); }
fail();
