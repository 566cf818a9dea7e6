"""Times prefill of linear attention in PyTorch: gated and gated delta, decays a head, one sequence.

textbook: the chunked form of Yang et al. (arXiv:2406.06484, 2412.06464) in tensor operations, chunks of 64.
zentorch: gdn_chunk_gated_delta_rule_fwd, where zentorch is installed (pip install torch zentorch).
fovea's side: fovea_bench --workload op=linear,rule=gated,B=1,Hq=8,Lq=16384,d=64,dv=64 (rule=gated_delta).
"""
import argparse
import time

import torch

CHUNK = 64


def chunks(x):
    return x.reshape(*x.shape[:2], -1, CHUNK, x.shape[-1])


def decays(g):
    """Sums of log decays in a chunk, and exp of their differences below the diagonal."""
    sums = g.reshape(*g.shape[:2], -1, CHUNK).cumsum(-1)
    return sums, (sums.unsqueeze(-1) - sums.unsqueeze(-2)).tril().exp().tril()


def through_chunks(q, k, g, weights, right_side):
    """o and the state, chunk by chunk; right_side(i, state): what chunk i adds, a row a token."""
    state = torch.zeros(*q.shape[:2], q.shape[-1], right_side.width)
    out = []
    for i in range(q.shape[2]):
        u = right_side(i, state)
        out.append((q[:, :, i] * g[:, :, i, :, None].exp()) @ state + weights[:, :, i] @ u)
        last = g[:, :, i, -1:]
        state = state * last.exp()[..., None] + (k[:, :, i] * (last - g[:, :, i]).exp()[..., None]).mT @ u
    return torch.cat(out, 2)


def gated(q, k, v, g, beta):
    q, k, v = chunks(q * q.shape[-1] ** -0.5), chunks(k), chunks(v)
    g, d = decays(g)
    right_side = lambda i, state: v[:, :, i]
    right_side.width = v.shape[-1]
    return through_chunks(q, k, g, q @ k.mT * d, right_side)


def gated_delta(q, k, v, g, beta):
    q, k, v, beta = chunks(q * q.shape[-1] ** -0.5), chunks(k), chunks(v), chunks(beta[..., None])
    g, d = decays(g)
    recall = (k * beta @ k.mT * d).tril(-1)
    one = torch.eye(CHUNK).expand_as(recall)
    inverse = torch.linalg.solve_triangular(one + recall, one, upper=False, unitriangular=True)
    u, w = inverse @ (v * beta), inverse @ (k * beta * g.exp()[..., None])
    right_side = lambda i, state: u[:, :, i] - w[:, :, i] @ state
    right_side.width = v.shape[-1]
    return through_chunks(q, k, g, q @ k.mT * d, right_side)


def zentorch_gated_delta(q, k, v, g, beta):
    import zentorch  # noqa: F401, registers the operator

    tokens, heads, dim = q.shape[2], q.shape[1], q.shape[3]
    rows = [x.transpose(1, 2).contiguous() for x in (q, k, v, g, beta)]
    lengths = torch.tensor([0, tokens], dtype=torch.int32)
    which = torch.stack([torch.zeros(tokens // CHUNK), torch.arange(tokens // CHUNK)], 1).int()
    offsets = torch.tensor([0, tokens // CHUNK], dtype=torch.int32)
    state = torch.zeros(1, heads, dim, v.shape[-1])
    return torch.ops.zentorch.gdn_chunk_gated_delta_rule_fwd(
        *rows, dim ** -0.5, state, True, CHUNK, lengths, which, offsets)[0].transpose(1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    for dim in (64, 128):
        q, k, v = (torch.randn(1, given.heads, given.tokens, dim) for _ in range(3))
        k = torch.nn.functional.normalize(k, dim=-1)
        g, beta = -0.05 * torch.rand(q.shape[:3]), torch.rand(q.shape[:3])
        results = {}
        for call in (gated, gated_delta, zentorch_gated_delta):
            best = float("inf")
            try:
                for _ in range(given.runs):
                    start = time.perf_counter()
                    with torch.no_grad():
                        results[call] = call(q, k, v, g, beta)
                    best = min(best, time.perf_counter() - start)
            except (ImportError, AttributeError) as error:
                print(f"d={dim} {call.__name__}: not here ({error})")
                continue
            print(f"d={dim} {call.__name__}: {1e3 * best:.1f} ms")
        if zentorch_gated_delta in results:
            apart = (results[zentorch_gated_delta] - results[gated_delta]).abs().max()
            print(f"d={dim} both forms of gated delta differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
