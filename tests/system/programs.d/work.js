// SPDX-License-Identifier: Apache-2.0
'use strict';
const brief = process.argv[2] === 'brief' ? 10 : 1;
const times = n => Math.floor(n / brief);
const print = (...a) => console.log(...a);

// Machine code that is made while it runs, thrown away where types change, made again.
class Shape { constructor(a) { this.a = a; } area() { return this.a; } }
class Square extends Shape { area() { return this.a * this.a; } }
class Circle extends Shape { area() { return this.a * this.a * 3; } }
let sum = 0;
for (let i = 0; i < times(2000000); i++) {
    const s = i % 3 === 0 ? new Square(i % 100) : i % 3 === 1 ? new Circle(i % 50) : new Shape(i & 7);
    sum += s.area();
}
print(sum);
const add = (a, b) => a + b;
let mixed = 0;
for (let i = 0; i < times(300000); i++) mixed = add(mixed, i % 1000 === 999 ? 0.5 : i);
print(mixed, add('a', 1), add(1n, 2n));

const floats = new Float64Array(4096).map((_, i) => Math.sin(i) * 1000);
let f = 0;
for (let k = 0; k < times(200); k++) for (let i = 1; i < floats.length; i++) f += floats[i] * floats[i - 1] - Math.sqrt(Math.abs(floats[i]));
print(f);
for (const g of ['sin', 'cos', 'tan', 'exp', 'log', 'atan', 'cbrt', 'sinh', 'log2', 'hypot', 'fround', 'expm1'])
    print(g, floats.slice(0, 512).reduce((s, x) => s + Math[g](Math.abs(x) / 100 + 0.01), 0));
const ints = new Int32Array(65536);
let seed = 1;
for (let k = 0; k < times(20) + 1; k++) for (let i = 0; i < ints.length; i++) { seed = Math.imul(seed, 1103515245) + 12345 | 0; ints[i] ^= seed >>> 3; }
print(ints.sort().slice(0, 5).join(), ints[65535]);

const map = new Map();
for (let i = 0; i < times(200000); i++) { const k = 'key' + i * 7919 % 5003; map.set(k, (map.get(k) || 0) + i); }
print(map.size, [...map.values()].reduce((a, b) => a + b, 0));
const objects = [];
for (let i = 0; i < times(30000); i++) objects.push({ id: i, name: `n${i}`, tags: [i % 3, i % 5], real: i / 7 });
const parsed = JSON.parse(JSON.stringify(objects));
print(parsed.length, JSON.stringify(parsed).length, parsed.filter(o => o.tags[0] === o.tags[1]).length);
const text = require('fs').readFileSync('text', 'utf8');
print(text.replace(/(\w+) (\w+)/g, '$2 $1').length, (text.match(/\bt[a-z]+p\b/g) || []).length, text.split(/\s+/).length);
let big = 1n;
for (let i = 1n; i < BigInt(times(1500)) + 20n; i++) big *= i;
print((big % 1000000007n).toString(), big.toString().length);
print(require('crypto').createHash('sha512').update(text).digest('hex'));
print(require('zlib').gzipSync(text, { level: 6 }).length);
function* primes(n) { outer: for (let i = 2; i < n; i++) { for (let d = 2; d * d <= i; d++) if (i % d === 0) continue outer; yield i; } }
print([...primes(times(40000) + 100)].length);
let caught = 0;
for (let i = 0; i < times(20000); i++) try { null.x; } catch (e) { caught++; }
print(caught);
const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);
print(fib(brief > 1 ? 18 : 27));

// (module (func (export "gcd") (param i32 i32) (result i32) ...)), a loop of i32.rem_u
if (typeof WebAssembly !== 'undefined') {
    const code = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 103, 99, 100, 0, 0,
        10, 33, 1, 31, 1, 1, 127, 3, 64, 32, 1, 4, 64, 32, 0, 32, 1, 112, 33, 2, 32, 1, 33, 0, 32, 2, 33, 1, 12, 1, 11, 11, 32, 0, 11]);
    const { gcd } = new WebAssembly.Instance(new WebAssembly.Module(code)).exports;
    let g = 0;
    for (let i = 1; i < times(200000); i++) g += gcd(i * 6, i * 9 % 65536 + 1);
    print(g);
}
const wait = [];
for (let i = 0; i < 50; i++) wait.push(new Promise(done => setTimeout(() => done(i), i % 5)));
Promise.all(wait).then(all => print(all.reduce((a, b) => a + b)));
