setTimeout(() => console.log('not reached?'), 50);
Promise.reject(new Error('rejected'));
