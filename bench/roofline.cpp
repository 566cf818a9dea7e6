// bench/roofline.cpp - where the time of a full prefill goes: the kernel's own steps, run with some of them
// left out.
//
//   roofline [tokens] [dim] [float|bf16|rounded]        a Markdown table for 8 heads, one thread: see
//                                                       roofline.md; rounded: bf16, P rounded to it too
//
// Results of incomplete runs are meaningless; every step works on numbers of a usual size all the same.
#include "numbers.hpp"
#include "peak.hpp"

#include <fovea/attention.hpp>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

using bench::index_type;
namespace kernel = fovea::kernel;
using arch = xsimd::default_arch;
using shape = kernel::geometry<arch>;
constexpr index_type n = kernel::lanes<arch, float>, heads = 8;
constexpr index_type panel_width = shape::tile_vectors * n, logits = shape::key_block * panel_width;
constexpr double patience = 1.0;

enum step : unsigned {
  packing = 1,
  first_product = 2,
  softmax = 4,
  reading = 8,  // K and V become floats or pairs, where they are not
  second_product = 16,
  unpacking = 32
};

/// A call's arrays, [head][token][channel], and the memory of one job.
template <class E>
struct data {
  index_type tokens, dim;
  bench::numbers<E> q, k, v, o;
  bench::numbers<float> scratch;

  data(index_type t, index_type d)
      : tokens(t),
        dim(d),
        q(size(heads * t * d), E(0.1f)),
        k(q.size(), E(0.2f)),
        v(q.size(), E(0.3f)),
        o(q.size()),
        scratch(size(logits + shape::panels * panel_width * (2 * d + 2) + 2 * shape::key_block * d)) {}
  static std::size_t size(index_type elements) { return static_cast<std::size_t>(elements); }
  fovea::matrix_view<const E> head(const bench::numbers<E>& x, index_type h) const {
    return {x.data() + h * tokens * dim, tokens, dim, dim, 1};
  }
  fovea::matrix_view<E> result(index_type h) { return {o.data() + h * tokens * dim, tokens, dim, dim, 1}; }
};

/// What a block of keys says of its values.
struct finite_block {
  bool finite_values(const auto&) const noexcept { return true; }
};

/// Whether products of Q and K, and of P and V, are made of pairs of bf16.
template <class E>
constexpr bool pairs_channels = kernel::pairs_channels<arch, float, E, fovea::matrix_view<const E>>;
template <class E, bool Rounds>
constexpr bool pairs_tokens = Rounds && kernel::pairs_tokens<arch, float, fovea::matrix_view<const E>>;

template <class E>
kernel::query_ref<arch, float> queries_of(const fovea::matrix_view<const E>& q) {
  if constexpr (pairs_channels<E>)
    return {q, kernel::as_bf16_pairs()};
  else
    return kernel::query_ref<arch, float>(q);
}

/// walk_lanes of kernel/forward/attend_lanes.hpp for unmasked heads, with the steps of Steps only. `reach`: how
/// many keys are read again and again, which decides what cache they come from.
template <unsigned Steps, bool Rounds, class E>
void run(data<E>& x, index_type reach) {
  using scorer = std::conditional_t<pairs_channels<E>, kernel::dot_product_of_pairs, fovea::dot_product>;
  float* const logit = x.scratch.data();
  float* const panel_memory = logit + logits;
  float* const read = panel_memory + shape::panels * panel_width * (2 * x.dim + 2);
  const index_type job = reach < x.tokens ? panel_width : shape::panels * panel_width;
  const kernel::lane_softmax<arch, float> softmax_state{false};
  const finite_block finite_values;
  const scorer dot_products;
  const kernel::scorer_ref<arch, float> scores(dot_products);
  kernel::prefetch soon;
  for (index_type h = 0; h < heads; ++h) {
    const auto q = x.head(x.q, h);
    const auto o = x.result(h);
    const auto rows_of_k = kernel::operand_in_lanes<arch, pairs_channels<E>>(x.head(x.k, h), x.dim, read);
    const auto rows_of_v = kernel::operand_in_lanes<arch, pairs_tokens<E, Rounds>>(
        x.head(x.v, h), x.dim, read + shape::key_block * x.dim);
    const fovea::range some_keys{0, std::min(reach, index_type(shape::key_block))};
    kernel::rows_of<float> k = rows_of_k.read(some_keys), v = rows_of_v.read_columns(some_keys);
    const auto queries = queries_of(q);
    for (index_type first = 0; first < x.tokens; first += job) {
      const fovea::range rows{first, std::min(first + job, x.tokens)};
      kernel::query_panels<arch, float> panels(rows, panel_memory, x.dim, x.dim, softmax_state.columns);
      for (auto& panel : panels)
        if (Steps & packing) {
          softmax_state.open(panel);
          for (int w = 0; w < panel.registers(); ++w)
            queries.pack(panel.rows_of(w), 0.125f, panel.q + w * n, panel.width);
        }
      for (index_type key = 0, block; key < x.tokens; key += block) {
        block = std::min({reach, index_type(shape::key_block), x.tokens - key});
        const fovea::range keys{key % reach, key % reach + block};
        if (Steps & reading) k = rows_of_k.read(keys), v = rows_of_v.read_columns(keys);
        for (auto& panel : panels) {
          kernel::logit_block<arch, float> s;
          s.s = logit, s.width = panel.width, s.rows = panel.rows, s.keys = {0, block};
          s.may_hide = false, s.finite = true;
          for (int w = 0; w < shape::tile_vectors; ++w) s.largest[w] = s.shrink[w] = 1.f, s.seen[w] = block;
          if (Steps & first_product) scores.dot(panel.q, x.dim, k, 0.125f, s, true, soon);
          if (Steps & softmax) softmax_state.absorb(s, panel, finite_values);
          const auto add = [&](const auto& values) {
            kernel::in_registers<arch>(panel.registers(), [&](auto w) {
              kernel::add_values<arch, w()>(s, values, x.dim, panel.sums, soon);
            });
          };
          if constexpr ((Steps & second_product) != 0 && pairs_tokens<E, Rounds>)
            kernel::pair_weights(s), add(kernel::as_pairs(v));
          else if constexpr ((Steps & second_product) != 0)
            add(v);
        }
      }
      for (auto& panel : panels)
        for (int w = 0; (Steps & unpacking) && w < panel.registers(); ++w)
          kernel::unpack<arch>(panel.sum(0, w), panel.width, softmax_state.reciprocal(panel, w), o,
                               panel.rows_of(w));
    }
  }
}

struct row {
  const char* what;
  double seconds, products;  // how many of the two
};

template <unsigned Steps>
constexpr std::integral_constant<unsigned, Steps> only;

template <class E, bool Rounds>
void print_table(const char* elements, index_type tokens, index_type dim) {
  constexpr index_type near = 32;  // keys whose K and V, with a panel of queries, fit L1
  constexpr unsigned products = first_product | second_product, loop = products | softmax | reading,
                     all = packing | loop | unpacking;
  data<E> x(tokens, dim);
  const auto time = [](const auto& f) { return bench::best_time(1, patience, [&](index_type) { f(); }); };
  const auto call = [&] {
    const auto view = [&](bench::numbers<E>& e) { return fovea::bhsd(e.data(), 1, heads, tokens, dim); };
    const fovea::attention<E, heads> attend;
    if constexpr (Rounds)
      attend.into(view(x.o), view(x.q), view(x.k), view(x.v), fovea::rounded_weights);
    else
      attend.into(view(x.o), view(x.q), view(x.k), view(x.v));
  };
  const auto steps = [&](auto which, index_type reach) {
    return time([&] { run<which(), Rounds>(x, reach); });
  };
  double peak = bench::fma_peak<float>(1, patience);
  const row rows[] = {
      {"the call", time(call), 2},
      {"its steps: pack Q, Q K^T, softmax, P V, unpack O", steps(only<all>, tokens), 2},
      {"without packing and unpacking", steps(only<loop>, tokens), 2},
      {"without the softmax", steps(only<products | reading>, tokens), 2},
      {"the products alone, K and V as they read them", steps(only<products>, tokens), 2},
      {"without P V", steps(only<first_product | softmax>, tokens), 1},
      {"Q K^T alone", steps(only<first_product>, tokens), 1},
      {"P V alone", steps(only<second_product>, tokens), 1},
      {"the softmax alone", steps(only<packing | softmax>, tokens), 0},
      {"everything in L1: Q K^T, softmax, P V", steps(only<loop & ~reading>, near), 2},
      {"everything in L1, without the softmax", steps(only<products>, near), 2},
  };
  peak = std::max(peak, bench::fma_peak<float>(1, patience));
  std::printf("%s, %s, 8 heads, %td tokens, dim %td, one thread, FMA peak %.1f GFLOP/s\n\n", arch::name(),
              elements, tokens, dim, peak / 1e9);
  std::printf("| what runs | ms | of the call's time | of the FMA peak |\n|---|---|---|---|\n");
  for (const row& r : rows) {
    const double flops = r.products * 2 * double(heads) * double(tokens) * double(tokens) * double(dim);
    std::printf("| %s | %.2f | %.1f %% | ", r.what, r.seconds * 1e3, 100 * r.seconds / rows[0].seconds);
    if (flops > 0) std::printf("%.1f %% ", 100 * flops / r.seconds / peak);
    std::printf("|\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const index_type tokens = argc > 1 ? std::atol(argv[1]) : 1024, dim = argc > 2 ? std::atol(argv[2]) : 64;
  const std::string_view elements = argc > 3 ? argv[3] : "float";
  if (elements == "bf16")
    print_table<fovea::bf16, false>("bf16", tokens, dim);
  else if (elements == "rounded")
    print_table<fovea::bf16, true>("bf16, weights rounded", tokens, dim);
  else if (elements == "float")
    print_table<float, false>("float", tokens, dim);
  else
    return std::fprintf(stderr, "roofline [tokens] [dim] [float|bf16|rounded]\n"), 1;
}
