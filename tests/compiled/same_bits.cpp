// Compiled for one instruction set: the compiled library, told to take it, gives the bits of the headers.
// (Of several scores in a call the last bit may differ: a compiler joins their products and sums where it sees
// them in one function.)
#include <fovea/compiled.hpp>
#include <fovea/kv_cache.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using fovea::index_type;
constexpr index_type batch = 2, heads = 4, kv_heads = 2, queries = 70, keys = 70, dim = 24;

int failures = 0;

template <class X>
void expect_same(const char* what, const X& a, const X& b) {
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0) return;
  std::size_t different = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    different += std::memcmp(&a[i], &b[i], sizeof a[0]) != 0;
  std::printf("%s: %zu of %zu numbers have other bits\n", what, different, a.size());
  ++failures;
}

template <class E>
std::vector<E> numbers(index_type count, float seed) {
  std::vector<E> x;
  for (index_type i = 0; i < count; ++i) x.push_back(E(std::sin(seed * static_cast<float>(i % 9973))));
  return x;
}

template <class E>
constexpr fovea_element code = sizeof(E) == 8 ? FOVEA_F64 : FOVEA_F32;
template <>
constexpr fovea_element code<fovea::bf16> = FOVEA_BF16;
template <>
constexpr fovea_element code<fovea::fp16> = FOVEA_F16;

/// q, k, v and results of both, in elements E.
template <class E>
struct arguments {
  using T = fovea::common_compute_t<E>;
  std::vector<E> q = numbers<E>(batch * heads * queries * dim, 1.3f),
                 k = numbers<E>(batch * kv_heads * keys * dim, 2.7f),
                 v = numbers<E>(batch * kv_heads * keys * dim, 4.1f), o = q, theirs = q,
                 d_o = numbers<E>(batch * heads * queries * dim, 0.3f), d_q = q, d_k = k, d_v = k, d_q2 = q,
                 d_k2 = k, d_v2 = k;
  std::vector<T> lse = std::vector<T>(batch * heads * queries), their_lse = lse;

  template <class X>
  static auto view(std::vector<X>& x, index_type n, index_type tokens = queries, index_type columns = dim) {
    return fovea::bhsd(x.data(), batch, n, tokens, columns);
  }
  template <class X>
  static fovea_tensor described(std::vector<X>& x, index_type n, index_type tokens = queries,
                                index_type columns = dim) {
    return fovea_bhsd(x.data(), code<X>, batch, n, tokens, columns);
  }
  void describe(fovea::compiled::call& call) {
    call.q = described(q, heads), call.k = described(k, kv_heads, keys),
    call.v = described(v, kv_heads, keys);
    call.o = described(theirs, heads), call.lse = described(their_lse, heads, queries, 1);
  }

  /// The headers' call with `mods`, and the described one: results and gradients.
  template <class... Mods>
  void compare(const char* what, fovea::compiled::call& call, bool gradients, const Mods&... mods) {
    const fovea::attention<E> attend{{.kv_heads = kv_heads}};
    attend.with_lse_into(view(o, heads), view(lse, heads, queries, 1), view(q, heads),
                         view(k, kv_heads, keys), view(v, kv_heads, keys), mods...);
    describe(call);
    call.attend();
    expect_same(what, o, theirs), expect_same(what, lse, their_lse);
    if (!gradients) return;
    if constexpr (sizeof(E) >= 4 || sizeof...(Mods) == 1) {
      attend.backward_into(view(d_q, heads), view(d_k, kv_heads, keys), view(d_v, kv_heads, keys),
                           view(q, heads), view(k, kv_heads, keys), view(v, kv_heads, keys), view(o, heads),
                           view(lse, heads, queries, 1), view(d_o, heads), mods...);
      fovea_gradients g{};
      g.d_o = described(d_o, heads), g.d_q = described(d_q2, heads);
      g.d_k = described(d_k2, kv_heads, keys), g.d_v = described(d_v2, kv_heads, keys);
      call.backward(g);
      expect_same(what, d_q, d_q2), expect_same(what, d_k, d_k2), expect_same(what, d_v, d_v2);
    }
  }
};

fovea_mask window(index_type left) {
  fovea_mask mask = fovea_mask_of(FOVEA_SLIDING_WINDOW);
  mask.left = left;
  return mask;
}

void compare_masks_and_scores() {
  arguments<float> x;
  {
    fovea::compiled::call call;
    x.compare("no mask", call, true);
  }
  {
    fovea::compiled::call call;
    call.add(fovea_mask_of(FOVEA_CAUSAL)), call.add(window(20));
    x.compare("causal, window", call, true, fovea::causal, fovea::sliding_window{.left = 20});
  }
  {
    std::vector<std::uint8_t> keep(queries * keys);
    for (std::size_t i = 0; i < keep.size(); ++i) keep[i] = i % 7 != 3 && i % 210 > 40;
    fovea_mask mask = fovea_mask_of(FOVEA_BOOLEAN);
    mask.matrix = fovea_bhsd(keep.data(), FOVEA_U8, 1, 1, queries, keys);
    const std::vector<float> logits(heads, 0.5f);
    fovea::compiled::call call;
    call.add(mask), call.sink = fovea_list_of(logits.data(), FOVEA_F32, heads);
    const auto matrix = fovea::bhsd(keep.data(), 1, 1, queries, keys);
    x.compare("boolean, sink", call, true, fovea::boolean_mask(matrix), fovea::sink{logits});
  }
  {
    std::vector<int> ids(keys);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i / 30);
    fovea_mask mask = fovea_mask_of(FOVEA_DOCUMENTS);
    mask.list = fovea_list_of(ids.data(), FOVEA_I32, keys);
    fovea::compiled::call call;
    call.add(fovea_mask_of(FOVEA_CAUSAL)), call.add(mask);
    call.dropout_rate = 0.25, call.dropout_seed = 7;
    x.compare("documents, dropout", call, true, fovea::causal, fovea::documents{ids},
              fovea::dropout{0.25, 7});
  }
  const std::vector<float> slopes{0.1f, 0.2f, 0.3f, 0.4f};
  fovea_score alibi = fovea_score_of(FOVEA_ALIBI);
  alibi.list = fovea_list_of(slopes.data(), FOVEA_F32, heads);
  {
    fovea::compiled::call call;
    call.add(alibi);
    x.compare("alibi", call, false, fovea::alibi{slopes});
    std::vector<float> w(batch * heads * queries * keys);
    call.weights(fovea_bhsd(w.data(), FOVEA_F32, batch, heads, queries, keys));
    const auto ours = fovea::attention<float>{{.kv_heads = kv_heads}}.weights(
        x.view(x.q, heads), x.view(x.k, kv_heads, keys), fovea::alibi{slopes});
    expect_same("weights", w, std::vector<float>(ours.data(), ours.data() + ours.size()));
  }
  {
    std::vector<float> bias = numbers<float>(heads * queries * keys, 0.9f), d_bias(bias.size()),
                       d_bias2(bias.size());
    bias[5] = -INFINITY;
    fovea_score matrix = fovea_score_of(FOVEA_BIAS);
    matrix.matrix = fovea_bhsd(bias.data(), FOVEA_F32, 1, heads, queries, keys);
    matrix.gradient = fovea_bhsd(d_bias2.data(), FOVEA_F32, 1, heads, queries, keys);
    fovea::compiled::call call;
    call.add(matrix);
    const auto view = fovea::bhsd(bias.data(), 1, heads, queries, keys);
    const auto to = fovea::bhsd(d_bias.data(), 1, heads, queries, keys);
    x.compare("bias", call, true, fovea::bias(view, to));
    expect_same("d_bias", d_bias, d_bias2);
  }
}

template <class E>
void compare_element(const char* what) {
  fovea::compiled::call call;
  call.add(fovea_mask_of(FOVEA_CAUSAL));
  arguments<E>().compare(what, call, true, fovea::causal);
}

/// Q: elements of the queries.
template <class E, class Q = float>
void compare_cache(const char* what, std::int32_t element) {
  arguments<float> x;
  std::vector<Q> q_elements;
  for (index_type i = 0; i < heads * dim; ++i) q_elements.push_back(Q(x.q[static_cast<std::size_t>(i)]));
  fovea::kv_cache<E> ours(keys, dim, {.heads = kv_heads});
  fovea_cache_options options{};
  options.kind = FOVEA_CONTIGUOUS, options.element = element, options.heads = kv_heads, options.dim = dim;
  options.capacity = keys;
  fovea::compiled::cache theirs(options);
  const auto k = fovea::bhsd(x.k.data(), 1, kv_heads, keys, dim),
             v = fovea::bhsd(x.v.data(), 1, kv_heads, keys, dim);
  ours.append(k, v);
  theirs.append(fovea_bhsd(x.k.data(), FOVEA_F32, 1, kv_heads, keys, dim),
                fovea_bhsd(x.v.data(), FOVEA_F32, 1, kv_heads, keys, dim));
  std::vector<Q> o(heads * dim), o2(o);
  const auto q = fovea::bhsd(q_elements.data(), 1, heads, 1, dim);
  fovea::attention<Q>{{.kv_heads = kv_heads}}.into(fovea::bhsd(o.data(), 1, heads, 1, dim), q, ours,
                                                   fovea::causal);
  fovea::compiled::call call;
  call.q = fovea_bhsd(q_elements.data(), code<Q>, 1, heads, 1, dim),
  call.o = fovea_bhsd(o2.data(), code<Q>, 1, heads, 1, dim);
  call.add(theirs), call.add(fovea_mask_of(FOVEA_CAUSAL));
  call.attend();
  expect_same(what, o, o2);
  // The same by a plan, in a workspace of its size.
  const fovea::compiled::plan plan(call);
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan.workspace_bytes()));
  std::fill(o2.begin(), o2.end(), Q());
  call.workspace = workspace.data(), call.workspace_bytes = workspace.size();
  call.planned_by(plan);
  call.attend();
  expect_same(what, o, o2);
}

}  // namespace

int main() {
  if (std::strcmp(fovea_isa(), FOVEA_TEST_ISA) != 0) {
    std::printf("skipped: this machine, or this library, has no %s but %s\n", FOVEA_TEST_ISA, fovea_isa());
    return 0;
  }
  compare_masks_and_scores();
  compare_element<double>("double"), compare_element<fovea::bf16>("bf16"),
      compare_element<fovea::fp16>("fp16");
  compare_cache<fovea::bf16>("a cache of bf16", FOVEA_BF16),
      compare_cache<fovea::bf16, fovea::bf16>("queries and a cache of bf16", FOVEA_BF16),
      compare_cache<std::int8_t>("a cache of int8", FOVEA_I8);
  std::printf("%s: %s\n", fovea_isa(), failures == 0 ? "the same bits" : "bad");
  return failures != 0;
}
