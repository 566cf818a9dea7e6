"""fovea from Python with numpy, against the formula in double."""
import ast
import pathlib
import tempfile
import threading
import time
import unittest

import numpy as np

import fovea
from fovea import masks
from refusals import Refusals  # run with what stands here


def numbers(*shape, dtype=np.float32, seed=1.3):
    return np.sin(seed * (np.arange(np.prod(shape)) % 9973)).astype(dtype).reshape(shape)


def reference(q, k, v, hide=None, add=0.0, softcap=None, sinks=None, scale=None):
    """hide: [.., Lq, Lk] where True is hidden. In double."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = q @ k.swapaxes(-1, -2) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if softcap:
        s = softcap * np.tanh(s / softcap)
    s = s + add
    if hide is not None:
        s = np.where(hide, -np.inf, s)
    largest = np.maximum(s.max(-1, keepdims=True), -1e300)
    p = np.exp(s - largest)
    total = p.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(np.asarray(sinks)[None, :, None, None] - largest)
    lse = (np.log(np.maximum(total, 1e-300)) + largest)[..., 0]
    return (p / np.maximum(total, 1e-300)) @ v, lse, p / np.maximum(total, 1e-300)


class Attention(unittest.TestCase):
    q, k, v = numbers(2, 4, 50, 16), numbers(2, 2, 50, 16, seed=2.7), numbers(2, 2, 50, 24, seed=4.1)
    above = np.triu(np.ones((50, 50), bool), 1)

    def close(self, a, b, within=2e-6):
        self.assertEqual(np.shape(a), np.shape(b))
        self.assertLess(np.abs(np.asarray(a, np.float64) - b).max(), within)

    def test_shapes_and_elements(self):
        exact, lse, _ = reference(self.q, self.k, self.v)
        o, l = fovea.attention(self.q, self.k, self.v, return_lse=True)
        self.close(o, exact), self.close(l, lse)
        self.close(fovea.attention(self.q[0], self.k[0], self.v[0]), exact[0])
        self.close(fovea.attention(self.q[0, 0], self.k[0, 0], self.v[0, 0]), exact[0, 0])
        double = fovea.attention(*(x.astype(np.float64) for x in (self.q, self.k, self.v)))
        self.assertEqual(double.dtype, np.float64)
        self.close(double, reference(self.q, self.k, self.v)[0], 1e-14)
        half = [x.astype(np.float16) for x in (self.q, self.k, self.v)]
        self.close(fovea.attention(*half), reference(*half)[0], 2e-3)

    def test_bfloat16_of_ml_dtypes(self):
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            self.skipTest("no ml_dtypes")
        x = [x.astype(bfloat16) for x in (self.q, self.k, self.v)]
        o = fovea.attention(*x)
        self.assertEqual(o.dtype, bfloat16)
        self.close(o, reference(*x)[0], 2e-2)

    def test_strides_are_read_in_place(self):
        exact = reference(self.q, self.k, self.v)[0]
        q = np.ascontiguousarray(self.q.swapaxes(1, 2)).swapaxes(1, 2)
        k = np.asfortranarray(self.k)
        v = np.repeat(self.v, 2, -1)[..., ::2]
        self.close(fovea.attention(q, k, v), exact)
        self.close(fovea.attention(self.q[:, :, ::-1], self.k, self.v), exact[:, :, ::-1])
        out = np.zeros((2, 4, 50, 48), np.float32)
        self.assertIs(fovea.attention(self.q, self.k, self.v, out=out[..., ::2]).base, out)
        self.close(out[..., ::2], exact)
        self.assertEqual(out[..., 1::2].any(), False)

    def test_dlpack_and_buffers(self):
        class Lent:
            def __init__(self, x):
                self.x = x

            def __dlpack__(self, **options):
                return self.x.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.x.__dlpack_device__()

        exact = reference(self.q, self.k, self.v)[0]
        self.close(fovea.attention(Lent(self.q), memoryview(self.k), self.v), exact)

    def test_masks(self):
        seen = np.arange(50)[None] - np.arange(50)[:, None]  # k - q
        cases = [({"causal": True}, self.above), ({"causal": True, "window": 7}, self.above | (seen < -7)),
                 ({"window": 3}, abs(seen) > 3), ({"window": (2, -1)}, seen < -2),
                 ({"mask": ~self.above}, self.above),
                 ({"mask": masks.causal() & ~masks.sliding_window(2, 2)}, self.above | (abs(seen) <= 2)),
                 ({"mask": masks.chunked(10) | masks.causal()},
                  self.above & (np.arange(50)[None] // 10 != np.arange(50)[:, None] // 10)),
                 ({"mask": masks.documents(np.arange(50) // 20)},
                  np.arange(50)[None] // 20 != np.arange(50)[:, None] // 20),
                 ({"mask": masks.neighbourhood([5, 10], [5, 3])},
                  abs(np.clip(np.arange(50) % 10, 1, 8)[:, None] - np.arange(50)[None] % 10) > 1)]
        for options, hide in cases:
            with self.subTest(options=options):
                exact, _, p = reference(self.q, self.k, self.v, hide)
                self.close(fovea.attention(self.q, self.k, self.v, **options), exact)
                self.close(fovea.weights(self.q, self.k, **options), p)
        hide = np.arange(50) >= np.array([50, 9])[:, None, None, None]
        self.close(fovea.attention(self.q, self.k, self.v, key_lengths=[50, 9]), reference(self.q, self.k, self.v, hide)[0])

    def test_scores_and_sinks(self):
        slopes, sinks = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, -1, 2, 0], np.float32)
        distance = -abs(np.arange(50)[None] - np.arange(50)[:, None]) * slopes[:, None, None]
        bias = numbers(4, 50, 50, seed=0.9)
        exact = reference(self.q, self.k, self.v, self.above, distance + bias, 3.0, sinks, 0.2)[0]
        o = fovea.attention(self.q, self.k, self.v, causal=True, alibi=slopes, mask=bias, softcap=3.0, sinks=sinks, scale=0.2)
        self.close(o, exact)

    def test_packed_sequences(self):
        offsets = [0, 20, 20, 50]
        x = [x[:1] for x in (self.q, self.k, self.v)]
        o = fovea.attention(*x, causal=True, query_offsets=offsets, key_offsets=offsets)
        apart = [fovea.attention(*(y[:, :, a:b] for y in x), causal=True) for a, b in ((0, 20), (20, 50))]
        np.testing.assert_array_equal(o, np.concatenate(apart, 2))

    def test_caches(self):
        exact = reference(self.q, self.k, self.v, self.above)[0]
        pool = fovea.PagePool(2, 16, 20, value_dim=24)
        for make in (lambda: fovea.KVCache(2, 16, 50, value_dim=24), lambda: fovea.RingCache(2, 16, 60, value_dim=24),
                     lambda: fovea.PagedCache(pool)):
            caches = [make(), make()]
            for b, cache in enumerate(caches):
                cache.append(self.k[b], self.v[b])
            self.assertEqual((len(caches[0]), caches[0].position), (50, 50))
            self.close(fovea.attention(self.q[:, :, -3:], caches, causal=True), exact[:, :, -3:])
            self.close(fovea.attention(self.q[0, :, -1:], caches[0], causal=True), exact[0, :, -1:])
            caches[0].truncate(30)
            self.close(fovea.attention(self.q[0, :, 29:30], caches[0], causal=True), exact[0, :, 29:30])
        other = caches[0].fork()
        other.append(self.k[0][:, 30:40], self.v[0][:, 30:40])
        self.assertEqual((len(other), len(caches[0])), (40, 30))
        for dtype, within in (("bfloat16", 2e-2), ("float16", 2e-3), ("int8", 5e-2)):
            cache = fovea.KVCache(2, 16, 50, value_dim=24, dtype=dtype)
            cache.append(self.k[0], self.v[0])
            self.close(fovea.attention(self.q[0, :, -1:], cache, causal=True), exact[0, :, -1:], within)
        with self.assertRaisesRegex(ValueError, "50.*not for 1"):
            cache.append(self.k[0][:, :1], self.v[0][:, :1])

    def test_backward(self):
        q, k, v = (x[:1, :, :9].astype(np.float64) for x in (self.q, self.k, self.v))
        bias, sinks, d_o = numbers(4, 9, 9, dtype=np.float64), np.array([0.5, -1, 2, 0]), numbers(1, 4, 9, 24, dtype=np.float64)
        options = {"causal": True, "softcap": 2.0}
        d_bias, d_sinks = np.zeros_like(bias), np.zeros(4, np.float32)
        o, lse = fovea.attention(q, k, v, return_lse=True, bias=bias, sinks=sinks, **options)
        gradients = fovea.backward(q, k, v, o, lse, d_o, bias=bias, sinks=sinks, d_bias=d_bias, d_sinks=d_sinks, **options)
        for x, gradient, within in zip((q, k, v, bias, sinks), (*gradients, d_bias, d_sinks), (1e-8,) * 4 + (1e-5,)):
            flat = x.reshape(-1)
            for i in range(0, flat.size, 37 if flat.size > 37 else 1):
                loss, before = [], flat[i]
                for step in (1e-5, -1e-5):
                    flat[i] = before + step
                    loss.append((d_o * fovea.attention(q, k, v, bias=bias, sinks=sinks, **options)).sum())
                flat[i] = before
                self.assertAlmostEqual((loss[0] - loss[1]) / 2e-5, gradient.reshape(-1)[i], delta=max(within, 1e-7))

    def test_statistics(self):
        p = reference(self.q, self.k, self.v, self.above)[2]
        rows = fovea.statistics(self.q, self.k, causal=True)
        self.close(rows["entropy"], -(p * np.log(np.maximum(p, 1e-300))).sum(-1), 1e-5)
        self.close(rows["largest"], p.max(-1))
        np.testing.assert_array_equal(rows["visible"], np.broadcast_to(np.arange(1, 51), (2, 4, 50)))

    def test_threads_give_the_same_bits(self):
        q = numbers(1, 8, 300, 32)
        np.testing.assert_array_equal(fovea.attention(q, q, q), fovea.attention(q, q, q, threads=fovea.Threads(2)))

    def test_errors_name_both_values(self):
        with self.assertRaisesRegex(ValueError, "16.*24|24.*16"):
            fovea.attention(self.q, self.v, self.v)
        with self.assertRaisesRegex(ValueError, "causal.*3 queries and 50 keys"):
            fovea.attention(self.q[:, :, :3], self.k, self.v, causal=True)
        with self.assertRaisesRegex(ValueError, "I32.*F32"):
            fovea.attention(self.q.astype(np.int32), self.k, self.v)
        with self.assertRaisesRegex(ValueError, "5 dimensions"):
            fovea.attention(self.q[None], self.k, self.v)
        with self.assertRaisesRegex(ValueError, "3 slopes for 4 heads"):
            fovea.attention(self.q, self.k, self.v, alibi=[1, 2, 3])

    def test_stub_names_every_option(self):
        stub = ast.parse((pathlib.Path(fovea.__file__).parent / "__init__.pyi").read_text())
        asked = {"attention": (self.q, self.k, self.v, False, None), "weights": (self.q, self.k), "logits": (self.q, self.k),
                 "statistics": (self.q, self.k), "backward": (self.q, self.k, self.v, None, None, None, None)}
        functions = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
        self.assertEqual(set(functions), set(asked) | {"rotate"})
        named = {argument.arg for node in functions.values() for argument in node.args.kwonlyargs}
        named -= {"return_lse", "out", "d_lse", "first", "interleaved"}
        self.assertEqual(named, set(fovea._native.options))
        for option in sorted(named):  # each is known to the module, with a value that it refuses
            for function, arguments in asked.items():
                with self.subTest(option=option, function=function):
                    with self.assertRaises(Exception) as raised:
                        getattr(fovea._native, function)(*arguments, {option: object(), "no such option": 1})
                    self.assertNotIn(f"no option {option}", str(raised.exception))
        with self.assertRaisesRegex(TypeError, "no option windows"):
            fovea.attention(self.q, self.k, self.v, windows=3)

    def test_gates_and_tables(self):
        gate, shut = numbers(2, 4, 50, 24, seed=0.7), numbers(2, 4, 50, seed=0.9)
        exact = reference(self.q, self.k, self.v, self.above)[0]
        self.close(fovea.attention(self.q, self.k, self.v, causal=True, gate=gate), exact / (1 + np.exp(-gate)))
        self.close(fovea.attention(self.q, self.k, self.v, causal=True, gate=shut), exact / (1 + np.exp(-shut[..., None])))
        table = numbers(7, 4, seed=1.1)
        slots = np.clip(np.arange(50) - np.arange(50)[:, None], -3, 3).astype(np.int32) + 3
        bias = table[slots].transpose(2, 0, 1)
        self.close(fovea.attention(self.q, self.k, self.v, bias_table=table, slots=slots),
                   reference(self.q, self.k, self.v, add=bias)[0])
        o, lse = fovea.attention(self.q, self.k, self.v, return_lse=True, bias_table=table, slots=slots)
        d_table, d_bias, d_o = np.zeros_like(table), np.zeros((4, 50, 50), np.float32), numbers(2, 4, 50, 24, seed=3.1)
        fovea.backward(self.q, self.k, self.v, o, lse, d_o, bias_table=table, slots=slots, d_bias_table=d_table)
        fovea.backward(self.q, self.k, self.v, o, lse, d_o, bias=bias, d_bias=d_bias)
        self.close(d_table, np.stack([d_bias[:, slots == i].sum(-1) for i in range(7)]), 1e-5)

    def test_rotation_and_files(self):
        angle = np.arange(60)[:, None] * 10000.0 ** (-np.arange(8) / 8)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        k, v = self.k[0], self.v[0]
        turned = fovea.rotate(k, cos, sin, first=4)
        a, b = k[..., :8], k[..., 8:]
        self.close(turned, np.concatenate([a * cos[4:54] - b * sin[4:54], a * sin[4:54] + b * cos[4:54]], -1))
        fused, apart, read = (fovea.KVCache(2, 16, 64, value_dim=24, dtype="bfloat16") for _ in range(3))
        fused.append(k, v, cos=cos, sin=sin), apart.append(fovea.rotate(k, cos, sin), v)
        with tempfile.TemporaryDirectory() as folder:
            fused.save(pathlib.Path(folder) / "cache")
            read.load(pathlib.Path(folder) / "cache")
        results = [fovea.attention(self.q[0, :, -1:], cache, causal=True) for cache in (fused, apart, read)]
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])
        p = fovea.weights(self.q[0, :, -1:], fused, causal=True)
        self.close(p.sum(-1), np.ones((4, 1)))
        with self.assertRaisesRegex(RuntimeError, "can not be read"):
            read.load("no such file")

    def test_other_threads_run_meanwhile(self):
        q = numbers(1, 8, 2000, 64)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (fovea.attention(q, q, q), done.set()))
        thread.start()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0)
        thread.join()
        self.assertGreater(turns, 100)


if __name__ == "__main__":
    unittest.main()
