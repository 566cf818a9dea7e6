"""What the package refuses, and what it gives back: part of test_fovea.py, which imports it."""
import ctypes
import pathlib
import re
import tempfile
import unittest
import weakref

import numpy as np

import fovea
from fovea import masks


class Refusals(unittest.TestCase):
    q, k, v = (np.sin(0.7 * i + np.arange(100 * heads * dim)).astype(np.float32).reshape(2, heads, 50, dim)
               for i, heads, dim in ((1, 4, 16), (2, 2, 16), (3, 2, 24)))

    def refused(self, text, function, *arguments, **options):
        with self.subTest(text=text), self.assertRaisesRegex(ValueError, "^fovea: " + text):
            function(*arguments, **options)

    def test_a_pool_lives_as_long_as_its_caches(self):
        cache = fovea.PagedCache(fovea.PagePool(2, 16, 8, 4))
        cache.append(self.k[0, :, :10], self.k[0, :, :10])
        pool = weakref.ref(cache.pool)
        with self.assertRaises(AttributeError):
            cache.pool = fovea.PagePool(1, 8, 8, 4)
        other = cache.fork()
        self.assertIs(other.pool, cache.pool)
        del cache
        self.assertEqual((len(other), pool().free_pages), (10, 5))
        del other  # gives its pages back, then lets go of the pool
        self.assertIsNone(pool())
        c = fovea.PagedCache(fovea.PagePool(2, 16, 8, 4))
        c.append(self.k[0, :, :10], self.k[0, :, :10])
        del c
        self.refused("pool is 3, not a fovea.PagePool", fovea.PagedCache, 3)

    def test_a_refused_buffer_is_given_back(self):
        held = bytearray(64)
        view = memoryview(held).cast("c")
        self.refused("q has elements of the format c", fovea.attention, view, self.k, self.v)
        view.release()
        held.extend(b"more")  # BufferError where somebody still looks at it

    def test_gradients_into_what_is_read_only(self):
        inputs = self.q, self.k, self.v
        o, lse = fovea.attention(*inputs, return_lse=True)
        for name, shape in (("gate", o.shape), ("gate", o.shape[:-1]), ("sinks", 4), ("alibi", 4),
                            ("bias", (4, 50, 50))):
            fixed = np.zeros(shape, np.float32)
            fixed.flags.writeable = False
            for to in (fixed, fixed.tolist()):  # of a list a copy would be written
                options = {name: fixed, "d_" + name: to}
                self.refused(f"d_{name} can not be written", fovea.backward, *inputs, o, lse, o, **options)
            self.assertFalse(fixed.any())
        self.refused("out can not be written", fovea.attention, self.q, self.k, self.v, out=o.tolist())

    def test_values_of_another_type(self):
        cases = {"scale": ["a", [], 1j], "softcap": ["a"], "dropout": ["a"],
                 "threads": [4, fovea.PagePool(2, 16, 8)], "seed": [-1, 2**64, 0.5], "off_by_one": ["a"],
                 "window": [3.0, np.float32(3.7), "a", (3,), (1, 2, 3), 2**63], "causal": [object()],
                 "key_lengths": [[3.7, 2], ["a", "b"], [[1], 2], [2**64, 1]], "query_offsets": [[0, 0.5]],
                 "sinks": [["a"], [None]], "alibi": [[1, [2]]]}
        for name, values in cases.items():
            for x in values:
                what = "a mask's list" if name == "key_lengths" else name
                self.refused(re.escape(f"{what} is {x!r}, not "), fovea.attention, self.q, self.k, self.v,
                             **{name: x})
        self.refused(r"window\[1\] is 3.0, not an int", fovea.attention, self.q, self.k, self.v, window=(1, 3.0))
        self.refused("a mask's size is 2.5, not an integer", masks.chunked, 2.5)
        self.refused("a mask's kernel is .*not 1 to 3 integers", masks.neighbourhood, [5, 10], [5, 3, 1, 1])
        cache = fovea.KVCache(2, 16, 50)
        for list in ([cache, 3], [cache, None], (None, cache)):
            self.refused(r"k\[.\] is (3|None), not a cache", fovea.attention, self.q, list)
        # What stands for a number, an integer or a truth value is taken as it was.
        options = {"scale": np.float64(0.5), "window": np.int64(3), "off_by_one": np.True_,
                   "key_lengths": [np.uint8(9), 50]}
        plain = {"scale": 0.5, "window": 3, "off_by_one": True, "key_lengths": np.array([9, 50])}
        np.testing.assert_array_equal(fovea.attention(self.q, self.k, self.v, **options),
                                      fovea.attention(self.q, self.k, self.v, **plain))

    def test_options_that_would_be_passed_over(self):
        o, lse = fovea.attention(self.q, self.k, self.v, return_lse=True)
        inputs = self.q, self.k, self.v
        for name in ("bias", "alibi", "t5_bias", "swin_bias", "bias_table", "gate", "sinks"):
            x = {"d_" + name: lse[0, 0] if name == "sinks" else lse}
            self.refused(f"d_{name} is given without {name}$", fovea.backward, *inputs, o, lse, o, **x)
            self.refused(f"d_{name} is an option of backward only", fovea.attention, *inputs, **x)
        for name, partner in (("slots", "bias_table"), ("swin_window", "swin_bias"),
                              ("alibi_offset", "alibi"), ("t5_bidirectional", "t5_bias"), ("t5_max_distance", "t5_bias")):
            options = {name: 1, partner: None}
            self.refused(f"{name} is given without {partner}$", fovea.attention, *inputs, **options)
        for function in (fovea.weights, fovea.logits, fovea.statistics):
            for option in ({"gate": o}, {"dropout": 0.5}, {"seed": 1}):
                self.refused("(gate|dropout|seed) is an option of attention and backward only", function,
                             self.q, self.k, **option)
        with self.assertRaisesRegex(TypeError, "no option windows"):
            fovea.attention(*inputs, windows=None)
        hidden, written = np.zeros((50, 50), np.float32), np.zeros((50, 50), np.float32)
        fovea.backward(*inputs, o, lse, o, mask=hidden, d_bias=written)  # a mask of real numbers is a bias
        self.assertTrue(written.any())
        self.refused("d_bias is given without bias", fovea.backward, *inputs, o, lse, o, mask=hidden == 0,
                     d_bias=written)

    def test_masks_of_other_numbers_of_axes(self):
        for fields in ({"kernel": [3]}, {"kernel": [3, 3, 3]}, {"dilation": [1]}, {"causal": [True, False, True]},
                       {"kernel": np.array([3])}, {"dilation": np.array([])}):
            fields = {"kernel": [3, 3], **fields}
            self.refused("a mask's (kernel|dilation|causal_axes) is .*, not a number for each axis of 2",
                         masks.neighbourhood, [5, 10], **fields)
        self.refused("corner is 'left', not top_left or bottom_right", masks.sliding_window, 1, 1, corner="left")
        for words in ([1.5, 3], [-1, 3], [2**64, 1], ["a"], [None], np.array([1.0])):
            self.refused("draft_tree's words are .*, not integers from 0", masks.draft_tree, words)
        masks.draft_tree(np.array([1, 2**63], np.uint64)), masks.draft_tree([True, 2**64 - 1])

    def test_names_of_files(self):
        cache = fovea.KVCache(2, 16, 50, value_dim=24)
        cache.append(self.k[0], self.v[0])
        with tempfile.TemporaryDirectory() as folder:
            kept = pathlib.Path(folder, "kept")
            for function in (cache.save, cache.load):
                self.refused("path is .*, with a null character", function, str(kept) + "\0.cache")
                for path in (None, 3):
                    self.assertRaises(TypeError, function, path)
            self.assertEqual(list(kept.parent.iterdir()), [])
            cache.save(bytes(kept))
            self.assertEqual(list(kept.parent.iterdir()), [kept])
            cache.truncate(3), cache.load(kept)
            self.assertEqual(len(cache), 50)

    def test_arrays_of_ctypes(self):  # which show no strides
        k = ((ctypes.c_float * 16) * 50 * 2 * 2).from_buffer(self.k.copy())
        np.testing.assert_array_equal(fovea.attention(self.q, k, self.v), fovea.attention(self.q, self.k, self.v))

    def test_caches(self):
        cache, angle = fovea.KVCache(2, 16, 50, value_dim=24), np.ones((50, 8), np.float32)
        self.refused("sin is given without cos", cache.append, self.k[0], self.v[0], sin=angle)
        self.refused("cos is given without sin", cache.append, self.k[0], self.v[0], cos=angle)
        self.assertEqual(len(cache), 0)
        cache.append(self.k[0], self.v[0])
        self.refused("v is given beside a cache", fovea.attention, self.q[0, :, -1:], cache, self.v[0])
        self.refused(r"tokens is \[0, 1.5\], not a list of integers", cache.keep, [0, 1.5])
