// SPDX-License-Identifier: Apache-2.0
import java.math.BigInteger;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** Work for the interpreter and the compilers of a Java machine, its collector and its threads. */
public class Work {
    interface Shape { double area(); }
    record Square(double a) implements Shape { public double area() { return a * a; } }
    record Circle(double r) implements Shape { public double area() { return r * r * 3; } }
    record Line(double l) implements Shape { public double area() { return 0; } }

    static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

    public static void main(String[] args) throws Exception {
        int brief = args.length > 0 ? 10 : 1;
        double sum = 0;
        for (int i = 0; i < 3000000 / brief; i++) {
            Shape s = i % 3 == 0 ? new Square(i % 100) : i % 3 == 1 ? new Circle(i % 50) : new Line(i);
            sum += s.area();
        }
        System.out.println(sum);
        System.out.println(fib(30 - brief));
        Map<String, Integer> counts = new TreeMap<>();
        for (int i = 0; i < 300000 / brief; i++)
            counts.merge("key" + (i * 7919L) % 1009, i & 15, Integer::sum);
        System.out.println(counts.size() + " " + counts.values().stream().mapToInt(x -> x).sum() + " " + counts.hashCode());
        double[] v = new Random(7).doubles(100000).toArray();
        double f = 0;
        for (int k = 0; k < 20 / brief + 1; k++)
            for (int i = 1; i < v.length; i++)
                f += v[i] * v[i - 1] + Math.sqrt(v[i]) - Math.sin(v[i]) * Math.exp(v[i]) + StrictMath.log(v[i] + 1);
        System.out.println(f + " " + DoubleStream.of(v).sorted().skip(5000).findFirst().getAsDouble());
        long[] words = new Random(9).longs(50000).toArray();
        long bits = 0;
        for (int k = 0; k < 20 / brief + 1; k++)
            for (long w : words)
                bits += Long.bitCount(w) + Long.numberOfLeadingZeros(w) * 3 + Long.reverse(w) % 7 + Long.rotateLeft(w, k);
        System.out.println(bits + " " + Arrays.hashCode(words));
        BigInteger b = BigInteger.valueOf(3).pow(4000 / brief);
        System.out.println(b.multiply(b).mod(BigInteger.TWO.pow(521).subtract(BigInteger.ONE)));
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 50000 / brief; i++)
            text.append(Integer.toHexString(i * 31337)).append(i % 9 == 0 ? '\u00e9' : ' ');
        System.out.println(text.toString().hashCode() + " " + text.toString().split(" ").length + " " + text.indexOf("fade"));
        int caught = 0;
        Object[] nothing = new Object[1];
        for (int i = 0; i < 100000 / brief; i++)
            try {
                if (nothing[0].hashCode() == i) caught--;
            } catch (NullPointerException e) {
                caught++;
            }
        System.out.println(caught);
        ExecutorService pool = Executors.newFixedThreadPool(3);
        List<Future<Long>> parts = new ArrayList<>();
        for (int t = 0; t < 6; t++) {
            int base = t;
            parts.add(pool.submit(() -> LongStream.range(0, 100000 / brief).map(x -> x * x % (base + 7)).sum()));
        }
        long all = 0;
        for (Future<Long> p : parts) all = all * 31 + p.get();
        pool.shutdown();
        System.out.println(all);
        List<int[]> kept = new LinkedList<>();
        long made = 0;
        for (int i = 0; i < 200000 / brief; i++) {
            kept.add(new int[100 + i % 50]);
            made += kept.get(0).length;
            if (kept.size() > 500) kept.remove(0);
        }
        System.out.println(made);
    }
}
