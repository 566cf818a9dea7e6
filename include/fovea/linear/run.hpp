// fovea/linear/run.hpp - a call of linear attention: packs tokens, runs an engine, stores o and the state.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/executor/concept.hpp>
#include <fovea/linear/decode.hpp>
#include <fovea/linear/plan.hpp>
#include <fovea/plan/operands.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// The arguments of a call as sequences; decay, beta and state have a null pointer where they are not
/// given.
template <class T, class Q, class K, class V, class O, class G, class B, class S>
struct call {
  using compute = T;
  using state_element = S;
  sequences<const Q> q;
  sequences<const K> k;
  sequences<const V> v;
  sequences<O> out;
  sequences<const G> decay;
  sequences<const B> beta;
  sequences<S> state;
  bool has_decay = false, has_beta = false, has_state = false, l2_norm = false;
  T scale = T(1);

  index_type group() const noexcept { return k.heads() == 0 ? 1 : q.heads() / k.heads(); }
  bool decays_channels() const noexcept { return has_decay && decay.dim() != 1; }
};

template <class X>
struct element_in_sequences;
template <class E>
struct element_in_sequences<sequences<E>> {
  using type = std::remove_const_t<E>;
};
template <class X>
using element_in = typename element_in_sequences<std::remove_cv_t<X>>::type;

enum class operand { decay, beta, state };

/// The view of the modifier that is such an operand; without one an empty view of `Otherwise`.
template <operand Which, class Otherwise>
sequences<Otherwise> operand_of(index_type) noexcept {
  return {};
}
template <operand Which, class Otherwise, class M, class... Mods>
auto operand_of(index_type heads, const M& m, const Mods&... mods) {
  if constexpr (Which == operand::decay && log_decay_like<M>)
    return read_only(view_of(m.numbers, heads, "log_decay"));
  else if constexpr (Which == operand::beta && delta_rule_like<M>)
    return read_only(view_of(m.numbers, heads, "delta_rule"));
  else if constexpr (Which == operand::state && linear_state_like<M>)
    return view_of(m.numbers, heads, "linear_state");
  else
    return operand_of<Which, Otherwise>(heads, mods...);
}

/// Engine and memory of a call. The engine depends on sizes of each sequence alone, so that bits do too.
template <class Arch, class Call>
linear_attention_plan make_plan(const Call& c, linear_engine wanted, index_type workers) {
  using T = typename Call::compute;
  constexpr index_type worth_waking = 200'000;  // operations
  linear_attention_plan p;
  p.batches = c.q.batches(), p.heads = c.q.heads(), p.kv_heads = c.k.heads(), p.tokens = c.q.max_tokens();
  p.dim = c.k.dim(), p.value_dim = c.v.dim(), p.compute_bytes = sizeof(T);
  p.engine = wanted == linear_engine::recurrence ? wanted : linear_engine::chunked;
  p.chunked_from = wanted == linear_engine::chunked ? 1 : chunk_tokens / 2;
  if (p.tokens < p.chunked_from) p.engine = linear_engine::recurrence;
  p.jobs = p.value_dim == 0 || p.tokens == 0 ? 0 : p.batches * p.kv_heads;
  p.numbers = task_sizes<Arch, T>{p.dim, p.value_dim, c.group()}.numbers(p.engine == linear_engine::chunked);
  const double operations =
      4.0 * double(p.batches) * double(p.heads) * double(p.tokens) * double(p.dim) * double(p.value_dim);
  share_scratch(p, p.jobs > 1 && operations > double(worth_waking) ? workers : 1, p.jobs);
  return p;
}

/// Asks for a row of x: rows may lie pages apart, where no processor guesses the next.
template <class E>
void fetch_row(const matrix_view<E>& x, index_type t) noexcept {
  if (x.col_stride != 1) return;
  for (index_type c = 0; c < x.cols; c += 64 / static_cast<index_type>(sizeof(E)))
    FOVEA_PREFETCH(x.at(t, c), 0, 2);
}

/// Rows [first, first + count) of x, `step` apart; beyond its columns `beyond`.
template <class T, class E>
FOVEA_NOINLINE void pack_rows(const matrix_view<const E>& x, index_type first, index_type count, T beyond,
                              T* to, index_type step) noexcept {
  for (index_type t = 0; t < count; ++t, to += step) {
    if (first + t + chunk_tokens < x.rows) fetch_row(x, first + t + chunk_tokens);
    load_elements(x.at(first + t), x.col_stride, x.cols, to);
    for (index_type c = x.cols; c < step; ++c) to[c] = beyond;
  }
}

/// Rows times scale; with l2_norm x / sqrt(sum x^2 + 1e-6) first.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void scale_rows(T* x, index_type count, index_type step, T scale,
                                             bool l2_norm) noexcept {
  using R = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  for (index_type t = 0; t < count; ++t, x += step) {
    T factor = scale;
    if (l2_norm) {
      R sum(T(0));
      for (index_type c = 0; c < step; c += n)
        sum = kernel::isa<Arch>::fma(R::load_aligned(x + c), R::load_aligned(x + c), sum);
      alignas(64) T squares[std::size_t{n}];
      kernel::sum_over_lanes<Arch, T>(sum).store_aligned(squares);
      factor = scale / std::sqrt(squares[0] + T(1e-6));
    }
    for (index_type c = 0; c < step; c += n) (R::load_aligned(x + c) * R(factor)).store_aligned(x + c);
  }
}

/// e^x in place, of round_up(count, lanes) numbers. Infinite from 2^128 (2^1024) on; less than the
/// smallest normal number is 0.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void exponentials(T* x, index_type count) noexcept {
  using R = vec<Arch, T>;
  for (index_type c = 0; c < count; c += lanes<Arch, T>) {
    const R given = R::load_aligned(x + c) * R(T(1.4426950408889634074));
    const R most(sizeof(T) == 4 ? T(127.9999) : T(1023.9999));
    const R power = kernel::isa<Arch>::exp2_or_zero(xsimd::min(most, given), R(kernel::exp2_limits<T>::zero));
    const R large = xsimd::select(given > most, R(std::numeric_limits<T>::infinity()), power);
    xsimd::select(given == given, large, given).store_aligned(x + c);
  }
}

/// One state: a key/value head of a sequence, in memory of its own.
template <class Arch, class Call>
class task {
  using T = typename Call::compute;
  using S = typename Call::state_element;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr index_type few_tokens =
      4;  // up to so many go in the caller's state, if it is as kernels read it

 public:
  task(const Call& call, const linear_attention_plan& plan, index_type job, std::byte* memory) noexcept
      : c_(call),
        b_(job / call.k.heads()),
        h_(job % call.k.heads()),
        tokens_(call.q.tokens(b_)),
        chunked_(plan.engine == linear_engine::chunked && tokens_ >= plan.chunked_from),
        k_(call.k.head(b_, h_)),
        v_(call.v.head(b_, h_)) {
    const task_sizes<Arch, T> sizes{k_.cols, v_.cols, call.group()};
    T* next = reinterpret_cast<T*>(memory);
    const auto take = [&](index_type count) { return std::exchange(next, next + count); };
    x_.group = sizes.group, x_.dim = sizes.dim, x_.dim_step = sizes.dim_step(), x_.width = sizes.width();
    x_.q = take(x_.group * chunk_tokens * x_.dim_step), x_.k = take(chunk_tokens * x_.dim_step);
    x_.decay = take(chunk_tokens * x_.dim_step);
    x_.v = take(chunk_tokens * x_.width), x_.o = take(x_.group * chunk_tokens * x_.width);
    x_.beta = take(chunk_tokens);
    x_.decays_channels = c_.decays_channels(), x_.decay_step = x_.decays_channels ? x_.dim_step : 1;
    if (!c_.has_decay) x_.decay = nullptr;
    if (!c_.has_beta) x_.beta = nullptr;
    s_ = {take(sizes.state()), x_.dim, x_.width};
    chunk_ = next;
  }

  /// `next_job`: the one after this on the same worker, if tasks are handed out in order; its state is
  /// fetched.
  void run(index_type next_job) noexcept {
    const bool there = in_place();
    if (!there) load_state();
    const chunk_memory<T> memory(chunk_, x_.dim_step, x_.width);
    for (index_type first = 0; first < tokens_; first += chunk_tokens) {
      pack(first, std::min(chunk_tokens, tokens_ - first));
      if (there)
        decode_in_place(next_job);
      else if (!chunked_ || !chunk<Arch, T>(x_, s_, memory).run())
        recur(x_, s_);
      for (index_type g = 0; g < x_.group; ++g) {
        const auto out = c_.out.head(b_, h_ * x_.group + g);
        for (index_type t = 0; t < x_.count; ++t)
          store_elements(x_.o_row(g, t), out.cols, out.at(first + t), out.col_stride);
      }
    }
    if (!there && c_.has_state) store_state();
  }

 private:
  /// Whether rows of the caller's state are what the recurrence reads and writes.
  bool in_place() const noexcept {
    if (!std::is_same_v<S, T> || !c_.has_state || chunked_ || tokens_ > few_tokens) return false;
    const auto own = c_.state.head(b_, h_);
    return own.col_stride == 1 && own.cols > 0 && own.cols % n == 0 && own.row_stride != 0;
  }

  void decode_in_place(index_type next_job) noexcept {
    if constexpr (std::is_same_v<S, T>) {
      const auto own = c_.state.head(b_, h_);
      const index_type heads = c_.k.heads();
      const bool last = next_job >= c_.k.batches() * heads;
      const T* const next = last ? nullptr : c_.state.head(next_job / heads, next_job % heads).data;
      decode<Arch, T>(x_, own.data, own.row_stride, next).run();
    }
  }

  void pack(index_type first, index_type count) noexcept {
    x_.count = count;
    for (index_type g = 0; g < x_.group; ++g) {
      pack_rows(
          matrix_view<const typename decltype(c_.q.head(0, 0))::element>(c_.q.head(b_, h_ * x_.group + g)),
          first, count, T(0), x_.q_row(g, 0), x_.dim_step);
      if (c_.scale != T(1) || c_.l2_norm)
        scale_rows<Arch, T>(x_.q_row(g, 0), count, x_.dim_step, c_.scale, c_.l2_norm);
    }
    pack_rows(k_, first, count, T(0), x_.k, x_.dim_step);
    if (c_.l2_norm) scale_rows<Arch, T>(x_.k, count, x_.dim_step, T(1), true);
    pack_rows(v_, first, count, T(0), x_.v, x_.width);
    if (x_.beta) pack_rows(c_.beta.head(b_, h_), first, count, T(0), x_.beta, index_type(1));
    if (!x_.decay) return;
    pack_rows(c_.decay.head(b_, h_), first, count, T(0), x_.decay, x_.decay_step);
    if (!x_.decays_channels)
      for (index_type t = count; t % n != 0; ++t) x_.decay[t] = T(0);
    exponentials<Arch, T>(x_.decay, count * x_.decay_step);
  }

  /// f(strip's first number of row i, its columns) for all strips of the packed state.
  template <class F>
  void each_part(const F& f) noexcept {
    for (index_type j = 0; j < s_.count(); ++j)
      for (index_type i = 0; i < x_.dim; ++i)
        f(s_.strip(j) + i * s_.row_step(j), i, j * s_.most, s_.width_of(j));
  }
  void load_state() noexcept {
    each_part([&](T* to, index_type i, index_type first, index_type width) {
      std::fill_n(to, width, T(0));
      if (!c_.has_state) return;
      const auto own = c_.state.head(b_, h_);
      load_elements(own.at(i, first), own.col_stride, std::min(width, own.cols - first), to);
    });
  }
  void store_state() noexcept {
    const auto own = c_.state.head(b_, h_);
    each_part([&](const T* from, index_type i, index_type first, index_type width) {
      store_elements(from, std::min(width, own.cols - first), own.at(i, first), own.col_stride);
    });
  }

  const Call& c_;
  index_type b_, h_, tokens_;
  bool chunked_;
  decltype(std::declval<Call>().k.head(0, 0)) k_;
  decltype(std::declval<Call>().v.head(0, 0)) v_;
  packed_tokens<T> x_;
  state_strips<Arch, T> s_;
  T* chunk_;
};

/// The whole call.
template <class Arch, class Call>
void run(const Call& c, const linear_attention_plan& plan, executor_ref executor,
         std::span<std::byte> given) {
  const working_memory memory(plan, given);
  if (plan.workers == 1) executor = executor_ref();
  executor.for_each(plan.jobs, [&](index_type job, index_type worker) {
    task<Arch, Call>(c, plan, job, memory.scratch(scratch_number(plan, job, worker))).run(job + plan.workers);
  });
}

}  // namespace linear
FOVEA_NAMESPACE_END
