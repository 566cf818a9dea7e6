// bench/roofline.cpp - where the time of a full prefill goes: the kernel's own steps, run with some of them
// left out.
//
//   roofline [tokens] [dim]        a Markdown table for 8 heads, one thread, float: see roofline.md
//
// Results of incomplete runs are meaningless; every step works on numbers of a usual size all the same.
#include "machine.hpp"
#include "peak.hpp"

#include <fovea/attention.hpp>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using bench::index_type;
namespace kernel = fovea::kernel;
using arch = xsimd::default_arch;
using shape = kernel::geometry<arch>;
constexpr index_type n = kernel::lanes<arch, float>, heads = 8;
constexpr double patience = 1.0;

enum step : unsigned { packing = 1, first_product = 2, softmax = 4, second_product = 8, unpacking = 16 };

struct data {
  index_type tokens, dim;
  std::vector<float> q, k, v, o, scratch;

  data(index_type t, index_type d)
      : tokens(t),
        dim(d),
        q(size(), 0.1f),
        k(size(), 0.2f),
        v(size(), 0.3f),
        o(size()),
        scratch(static_cast<std::size_t>(shape::panels * shape::tile_vectors * n * (2 * d + 2) +
                                         shape::key_block * shape::tile_vectors * n + 64)) {}
  std::size_t size() const { return static_cast<std::size_t>(heads * tokens * dim); }
  template <class E>
  fovea::matrix_view<E> head(E* x, index_type h) const {
    return {x + h * tokens * dim, tokens, dim, dim, 1};
  }
};

/// What a block of keys says of its values.
struct finite_block {
  bool finite_values(const auto&) const noexcept { return true; }
};

/// walk_lanes of kernel/forward/attend_lanes.hpp for unmasked heads, with the steps of Steps only. `reach`: how
/// many keys are read again and again, which decides what cache they come from.
template <unsigned Steps>
void run(data& x, index_type reach) {
  auto* aligned =
      reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(x.scratch.data()) + 63) / 64 * 64);
  constexpr index_type logits = shape::key_block * shape::tile_vectors * n, width = shape::tile_vectors * n;
  const index_type job = reach < x.tokens ? width : shape::panels * width;
  const kernel::lane_softmax<arch, float> softmax_state{false};
  const finite_block finite_values;
  for (index_type h = 0; h < heads; ++h)
    for (index_type first = 0; first < x.tokens; first += job) {
      const fovea::range rows{first, std::min(first + job, x.tokens)};
      kernel::query_panels<arch, float> panels(rows, aligned + logits, x.dim, x.dim, softmax_state.columns);
      const auto q = x.head<const float>(x.q.data(), h);
      const auto o = x.head<float>(x.o.data(), h);
      for (auto& panel : panels)
        if (Steps & packing) {
          softmax_state.open(panel);
          for (int w = 0; w < panel.registers(); ++w)
            kernel::pack<arch>(q, panel.rows_of(w), 0.125f, panel.q + w * n, panel.width);
        }
      for (index_type key = 0; key < x.tokens; key += std::min(reach, index_type(shape::key_block))) {
        const index_type block = std::min({reach, index_type(shape::key_block), x.tokens - key});
        const index_type from = (h * x.tokens + key % reach) * x.dim;
        const kernel::rows_of<float> k{x.k.data() + from, x.dim, x.dim}, v{x.v.data() + from, x.dim, x.dim};
        for (auto& panel : panels) {
          kernel::logit_block<arch, float> s;
          s.s = aligned, s.width = panel.width, s.rows = panel.rows, s.keys = {0, block};
          s.may_hide = false, s.finite = true;
          for (int w = 0; w < shape::tile_vectors; ++w) s.largest[w] = s.shrink[w] = 1.f, s.seen[w] = block;
          kernel::prefetch soon;
          kernel::in_registers<arch>(panel.registers(), [&](auto w) {
            if (Steps & first_product) kernel::dot_seen_keys<arch, w()>(panel.q, x.dim, k, 1.f, s, true, soon);
            if (Steps & softmax) softmax_state.absorb(s, panel, finite_values);
            if (Steps & second_product) kernel::add_values<arch, w()>(s, v, x.dim, panel.sums, soon);
          });
        }
      }
      for (auto& panel : panels)
        for (int w = 0; (Steps & unpacking) && w < panel.registers(); ++w)
          kernel::unpack<arch>(panel.sum(0, w), panel.width, softmax_state.reciprocal(panel, w), o,
                               panel.rows_of(w));
    }
}

struct row {
  const char* what;
  double seconds, products;  // how many of the two
};

}  // namespace

int main(int argc, char** argv) {
  using bench::index_type;
  const index_type tokens = argc > 1 ? std::atol(argv[1]) : 1024, dim = argc > 2 ? std::atol(argv[2]) : 64;
  constexpr index_type near = 32;  // keys whose K and V, with a panel of queries, fit L1
  data x(tokens, dim);
  const auto time = [](const auto& f) { return bench::best_time(1, patience, [&](index_type) { f(); }); };
  const auto call = [&] {
    const auto view = [&](std::vector<float>& e) { return fovea::bhsd(e.data(), 1, heads, tokens, dim); };
    fovea::attention<float, heads>().into(view(x.o), view(x.q), view(x.k), view(x.v));
  };
  constexpr unsigned loop = first_product | softmax | second_product, all = packing | loop | unpacking;
  double peak = bench::fma_peak<float>(1, patience);
  const row rows[] = {
      {"the call", time(call), 2},
      {"its steps: pack Q, Q K^T, softmax, P V, unpack O", time([&] { run<all>(x, tokens); }), 2},
      {"without packing and unpacking", time([&] { run<loop>(x, tokens); }), 2},
      {"without the softmax", time([&] { run<first_product | second_product>(x, tokens); }), 2},
      {"without P V", time([&] { run<first_product | softmax>(x, tokens); }), 1},
      {"Q K^T alone", time([&] { run<first_product>(x, tokens); }), 1},
      {"P V alone", time([&] { run<second_product>(x, tokens); }), 1},
      {"the softmax alone", time([&] { run<packing | softmax>(x, tokens); }), 0},
      {"everything in L1: Q K^T, softmax, P V", time([&] { run<loop>(x, near); }), 2},
      {"everything in L1, without the softmax", time([&] { run<first_product | second_product>(x, near); }),
       2},
  };
  peak = std::max(peak, bench::fma_peak<float>(1, patience));
  std::printf("%s, 8 heads, %td tokens, dim %td, one thread, FMA peak %.1f GFLOP/s\n\n", arch::name(), tokens,
              dim, peak / 1e9);
  std::printf("| what runs | ms | of the call's time | of the FMA peak |\n|---|---|---|---|\n");
  for (const row& r : rows) {
    const double flops = r.products * 2 * double(heads) * double(tokens) * double(tokens) * double(dim);
    std::printf("| %s | %.2f | %.1f %% | ", r.what, r.seconds * 1e3, 100 * r.seconds / rows[0].seconds);
    if (flops > 0) std::printf("%.1f %% ", 100 * flops / r.seconds / peak);
    std::printf("|\n");
  }
}
