// Nanoseconds for a promise with ten callbacks that is resolved, until the last has run: the median
// over some rounds.

async function batch(operations) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < operations; i++) {
    let resolve;
    let promise = new Promise((r) => (resolve = r));
    for (let j = 0; j < 10; j++) promise = promise.then((n) => n + 1);
    resolve(i);
    await promise;
  }
  return Number(process.hrtime.bigint() - start) / operations;
}

const rounds = Number(process.argv[2] ?? 21);
await batch(50000);
const nanos = [];
for (let i = 0; i < rounds; i++) nanos.push(await batch(5000));
nanos.sort((a, b) => a - b);
console.log(nanos[nanos.length >> 1]);
