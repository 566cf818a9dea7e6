"""The peers: what each needs to compute a workload, and a process that times it on request. See compare_peers.py."""
import argparse
import json
import math
import os
import sys
import time

PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
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


def plain_tensors(w):
    """Q, K, V as numpy arrays for the two peers that are timed with float32, unmasked or causal."""
    import numpy as np
    if w["op"] != "forward" or w["with"] != "none":
        raise NotImplementedError("op=" + w["op"] + ", with=" + w["with"])
    if w["dtype"] != "f32" or w["kv"] != "f32":
        raise NotImplementedError("float32 only")
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


class OpenVino:
    def __init__(self, threads):
        import openvino
        import openvino.opset13
        self.openvino, self.version = openvino, openvino.__version__.split("-")[0]
        self.config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}

    def prepare(self, w):
        import numpy as np
        if w["Hq"] != w["Hkv"]:
            raise NotImplementedError("grouped queries")
        arrays, ops = plain_tensors(w), self.openvino.opset13
        parameters = [ops.parameter(list(a.shape), np.float32) for a in arrays]
        attention = ops.scaled_dot_product_attention(*parameters, causal=w["mask"] == "causal")
        model = self.openvino.Model([attention], parameters)
        compiled = self.openvino.Core().compile_model(model, "CPU", self.config)
        request = compiled.create_infer_request()
        for i, a in enumerate(arrays):
            request.set_input_tensor(i, self.openvino.Tensor(a, shared_memory=True))
        return lambda owners=(arrays, compiled): request.infer()  # the request owns neither


def serve(peer, threads):
    """The process of a peer: a line of JSON in, a line of JSON out."""
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    engine = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}[peer](threads)
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
