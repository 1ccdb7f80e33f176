for (let i = 0; i < 8000; i++) { console.log(i, 'x'.repeat(40)); if (i % 8 === 0) console.error('err', i); }
