// fovea/short_convolution.hpp - the short causal convolution that stands in front of linear attention.
//
//   p_t = bias + sum_{i < K} w_i * x_{t - K + 1 + i}       y_t = p_t, or p_t sigmoid(p_t): SiLU    K: 2 to 8
//
// each channel by itself; x_t before the first token are 0, or rows of a state.
//
//   fovea::short_convolution<float, 8> convolve;                     // 8 heads; SiLU
//   Matrix y = convolve(x, w);                                       // w: K rows of the columns of x
//   fovea::tensor<float> s(1, 8, K - 1, d);                    // the tokens before these: at first 0
//   convolve.into(y, x, w, fovea::convolution_bias(b), fovea::convolution_state(s));     // decode, prefill
//   convolve.backward_into(d_x, d_w, x, w, d_y, fovea::convolution_bias(b, d_b));
//
// Dao & Gu, "Transformers are SSMs", arXiv:2405.21060, section 7; Yang et al., "Gated Delta Networks",
// arXiv:2412.06464, section 3.4. Views, elements, executors and errors are those of attention.hpp.
#pragma once

#include <fovea/linear_attention.hpp>
#include <fovea/short_convolution/channels.hpp>

FOVEA_NAMESPACE_BEGIN

struct short_convolution_options {
  index_type heads = 0;        // where the type leaves them dynamic_heads
  bool silu = true;            // y = p sigmoid(p), else y = p
  executor_ref executor = {};  // who does the work; must outlive the object
};

/// T: the element of x and of returned results. Sizes: x (L, d) a head, y (L, d), w (K, d) a head: w_i is row
/// i, the last one that of the token itself. `mods`: at most one convolution_bias (one row of d a head) and
/// one convolution_state (sequences x heads x (K - 1) x d, the oldest first: read before the first token, and
/// replaced by the last K - 1 of x). A shorter x leaves what is left of the state in front.
///
/// |error| <= (K + 1) u sum |w x| before the SiLU, whose relative error is (2 |p| + 6) u, u = 2^-24. Cost:
/// 2 K operations an element, one exponential with SiLU; memory 128 rows of a head a worker, backward 2 L of
/// them. Rows of x and y are worked on where they lie if they are whole registers of T. Results are the same
/// bits for any executor, and for a sequence alone or in a batch. Every call throws
/// std::invalid_argument, naming the argument and both values, before anything is written.
template <class T, int Heads = dynamic_heads, class Arch = xsimd::default_arch>
class short_convolution {
 public:
  explicit short_convolution(const short_convolution_options& options = {}) : options_(options) {
    check_heads("heads", options.heads, Heads);
  }

  /// Returns y, of the kind and storage order of x.
  template <class X, class W, class... Mods>
  auto operator()(const X& x, const W& w, const Mods&... mods) const {
    const index_type heads = heads_of(x);
    auto y = make_like<T>(x, heads, view_of(x, heads, "x").dim());
    into(shaped_like(x, y), x, w, mods...);
    return y;
  }

  /// Writes y, which has the size of x and any element, and shares no memory with what is read; nor does the
  /// state.
  template <class Y, class X, class W, class... Mods>
  void into(Y&& y, const X& x, const W& w, const Mods&... mods) const {
    const auto c = call_of(x, w, mods...);
    const auto out = view_of(y, c.x.heads(), "y");
    check_result("y", out, "x", c.x, c.x.dim());
    results<2> written;
    written.add("y", out.all);
    if (c.state.all.data) written.add("convolution_state", c.state.all);
    c.each_read([&](const char* name, const auto& read) { written.check_apart_from(name, read); });
    fill_rows_of_none(out);
    options_.executor.for_each(c.x.batches() * c.x.heads(), [&](index_type job, index_type) {
      convolution::channels<Arch, std::remove_const_t<decltype(c)>>(c, job % c.x.heads())
          .forward(job / c.x.heads(), out);
    });
  }

  /// Writes `d_x` and `d_w`, of the sizes of x and w and any element: the gradients of a loss whose
  /// gradient by y is `d_y`; those of bias and state go where convolution_bias(b, d_b) and
  /// convolution_state(s, d_s) say. s is the state before the first token, and only read; d_s is read as
  /// the gradient by the state after the last one, and replaced by that before the first. Gradients share
  /// no memory with each other or with what is read.
  template <class DX, class DW, class X, class W, class G, class... Mods>
  void backward_into(DX&& d_x, DW&& d_w, const X& x, const W& w, const G& d_y, const Mods&... mods) const {
    const auto c = call_of(x, w, mods...);
    using compute = typename std::remove_const_t<decltype(c)>::compute;
    const index_type heads = c.x.heads();
    const auto by_y = read_only(view_of(d_y, heads, "d_y"));
    const auto by_x = view_of(d_x, heads, "d_x");
    const auto by_w = view_of(d_w, heads, "d_w");
    const auto by_bias = convolution::gradient_of<convolution::operand::bias, compute>(heads, mods...);
    const auto by_state = convolution::gradient_of<convolution::operand::state, compute>(heads, mods...);
    check_like("d_y", by_y, "x", c.x, c.x.dim()), check_result("d_x", by_x, "x", c.x, c.x.dim());
    check_result("d_w", by_w, "w", c.w, c.x.dim());
    if (by_bias.all.data) check_result("d_convolution_bias", by_bias, "convolution_bias", c.bias, c.x.dim());
    if (by_state.all.data) convolution::check_state("d_convolution_state", c, by_state);
    results<4> written;
    written.add("d_x", by_x.all), written.add("d_w", by_w.all);
    if (by_bias.all.data) written.add("d_convolution_bias", by_bias.all);
    if (by_state.all.data) written.add("d_convolution_state", by_state.all);
    c.each_read([&](const char* name, const auto& read) { written.check_apart_from(name, read); });
    written.check_apart_from("d_y", by_y);
    if (c.state.all.data) written.check_apart_from("convolution_state", c.state);
    fill_rows_of_none(by_x);
    options_.executor.for_each(heads, [&](index_type head, index_type) {
      convolution::channels<Arch, std::remove_const_t<decltype(c)>>(c, head).backward(by_y, by_x, by_w,
                                                                                      by_bias, by_state);
    });
  }

 private:
  template <class X>
  index_type heads_of(const X& x) const {
    return query_heads<Heads>({.heads = options_.heads}, x);
  }

  template <class X, class W, class... Mods>
  auto call_of(const X& x, const W& w, const Mods&... mods) const {
    static_assert(check_operand<X>() && check_operand<W>());
    static_assert(same_format<T, element_of<X>>, "fovea: short_convolution<T>: x has elements of type T");
    static_assert(((convolution_bias_like<Mods> || convolution_state_like<Mods>)&&...),
                  "fovea: what follows w is convolution_bias(b) or convolution_state(s)");
    using compute = common_compute_t<element_of<X>, element_of<W>>;
    const index_type heads = heads_of(x);
    const auto rows = read_only(view_of(x, heads, "x"));
    const auto weights = read_only(view_of(w, heads, "w"));
    const auto bias = convolution::operand_of<convolution::operand::bias, const compute>(heads, mods...);
    const auto state = convolution::operand_of<convolution::operand::state, compute>(heads, mods...);
    const convolution::call<compute, element_of<X>, element_of<W>, linear::element_in<decltype(bias)>,
                            linear::readable_in<decltype(state)>>
        c{rows, weights, bias, state, options_.silu};
    check_same("w", "sequences", weights.batches(), "the call", index_type(1));
    if (weights.dim() != rows.dim())
      reject("w has ", weights.dim(), " columns a head, but x has ", rows.dim());
    if (c.kernel() < 2 || c.kernel() > convolution::most) reject("w has ", c.kernel(), " rows, not 2 to 8");
    if (bias.all.data) {
      check_same("convolution_bias", "sequences", bias.batches(), "w", index_type(1));
      check_same("convolution_bias", "rows", bias.tokens(0), "a head", index_type(1));
      if (bias.dim() != rows.dim())
        reject("convolution_bias has ", bias.dim(), " columns a head, but x has ", rows.dim());
    }
    if (state.all.data) convolution::check_state("convolution_state", c, state);
    return c;
  }

  short_convolution_options options_;
};

FOVEA_NAMESPACE_END
