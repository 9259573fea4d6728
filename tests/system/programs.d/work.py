# SPDX-License-Identifier: Apache-2.0
import array, collections, decimal, fractions, hashlib, heapq, json, math, random, re, struct, sys, threading, zlib

text = open(sys.argv[1]).read()
words = collections.Counter(re.findall(r"[a-z]+", text))
print(sorted(words.items()))
print(len(re.sub(r"(\w+) (\w+)", r"\2 \1", text)), zlib.crc32(zlib.compress(text.encode(), 6)))
for name in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
    print(name, hashlib.new(name, text.encode()).hexdigest())

x = pow(3, 20000) + pow(7, 9000)
print(x % 10**40, (x * x) >> 60000, math.isqrt(x) % 10**30, pow(5, x % 10**300, 2**521 - 1))
decimal.getcontext().prec = 300
print(decimal.Decimal(2).sqrt(), decimal.Decimal(10).exp(), decimal.Decimal(7).ln())
print(sum(fractions.Fraction(1, n) for n in range(1, 300)))

random.seed(7)
values = [random.gauss(0, 10) for _ in range(40000)]
print(repr(math.fsum(values)), repr(sum(values)))
for f in (math.sin, math.cos, math.tan, math.exp, math.atan, math.sinh, math.erf, math.gamma, math.cbrt, math.expm1):
    print(f.__name__, repr(sum(f(v / 11 + 0.05) for v in values[:8000])))
print(repr(sum(math.fmod(v, 0.7) + math.remainder(v, 0.3) + math.log1p(abs(v)) + abs(v) ** 0.3 for v in values)))
heap = [int(v * 1000) for v in values]
heapq.heapify(heap)
print([heapq.heappop(heap) for _ in range(20)], sorted(values)[::4000])
packed = struct.pack("<%df" % len(values), *values)
print(zlib.adler32(packed), sum(struct.unpack("<%df" % len(values), packed)))
print(hashlib.md5(array.array("d", values).tobytes()).hexdigest())

data = [{"n": n, "text": "line %d \u00e9\u4e2d" % n, "list": list(range(n % 7)), "real": n / 7} for n in range(8000)]
again = json.loads(json.dumps(data))
print(again == data, len(json.dumps(data, indent=1, sort_keys=True)))

class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        side = "left" if key < self.key else "right"
        child = getattr(self, side)
        setattr(self, side, Node(key)) if child is None else child.insert(key)

    def walk(self):
        if self.left:
            yield from self.left.walk()
        yield self.key
        if self.right:
            yield from self.right.walk()

tree = Node(0.5)
for v in values[:6000]:
    tree.insert(v)
print(list(tree.walk())[::500])

lock, total = threading.Lock(), [0]
def add(k):
    for i in range(3000):
        with lock:
            total[0] += i * k
threads = [threading.Thread(target=add, args=(k,)) for k in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
print(total)

caught = 0
for i in range(30000):
    try:
        [][i] if i % 3 else {}[i]
    except (IndexError, KeyError):
        caught += 1
print(caught)
