// fovea/linear/differentiate.hpp - a backward call of linear attention: forward for the states before each
// chunk, which are kept, then backward through the chunks.
#pragma once

#include <fovea/linear/chunk_gradient.hpp>
#include <fovea/linear/decay_gradient.hpp>
#include <fovea/linear/read_tokens.hpp>

#include <bit>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// One state of a backward call: a key/value head of a sequence.
template <class Arch, class Gradients>
class gradient_task {
  using Call = typename Gradients::forward_call;
  using T = typename Call::compute;
  using strips = state_strips<Arch, T>;
  using reader = token_reader<Arch, Call>;
  static constexpr index_type n = lanes<Arch, T>, halvings = std::bit_width(unsigned(chunk_tokens)) - 1;
  /// How the state after a chunk was made: by products, which leave u_t / beta_t, or token by token.
  enum class way : unsigned char { products, token_by_token };

 public:
  gradient_task(const Gradients& gradients, const linear_attention_plan& plan, index_type job,
                std::byte* memory) noexcept
      : g_(gradients),
        c_(gradients.forward),
        reader_(c_, job, true, reinterpret_cast<T*>(memory)),
        x_(reader_.block()),
        sizes_{x_.dim, c_.v.dim(), x_.group, x_.decays_channels},
        kept_(plan.chunks_kept),
        next_(reinterpret_cast<T*>(memory) + reader::numbers(sizes_)),
        chunk_(take(chunk_memory<Arch, T>::numbers(x_.dim_step, x_.width, x_.decays_channels)), x_.dim_step,
               x_.width, x_.decays_channels),
        own_(take(gradient_memory<Arch, T>::numbers(x_.group, x_.dim_step, x_.width)), x_.group, x_.dim_step,
             x_.width),
        m_(own_) {
    own_d_out_ = {take(x_.group * chunk_tokens * x_.width), x_.width};
    unused_o_ = {take(x_.group * chunk_tokens * x_.width), x_.width};
    own_d_decay_ = {take(chunk_tokens * x_.dim_step), x_.decays_channels ? x_.dim_step : 1};
    d_beta_ = take(chunk_tokens), later_ = take(x_.dim_step);
    std::fill_n(later_, x_.dim_step, T(0));
    s_ = state(take(sizes_.state())), ds_ = state(take(sizes_.state()));
    if (x_.decays_channels) halves_ = take(halvings * sizes_.state());
    chunks_ = take(kept_ * numbers_kept(sizes_, c_.has_beta));
    ways_ = reinterpret_cast<way*>(take(numbers_of_ways(kept_)));
    x_.first_o = unused_o_, x_.o_head = chunk_tokens * x_.width;
  }

  /// Of a call whose longest sequence has `tokens`.
  static index_type numbers(const task_sizes<Arch, T>& z, bool has_beta, index_type tokens,
                            index_type kept) noexcept {
    const index_type segments = ceil_div(ceil_div(tokens, chunk_tokens), std::max<index_type>(kept, 1));
    return reader::numbers(z) + chunk_memory<Arch, T>::numbers(z.dim_step(), z.width(), z.decays_channels) +
           gradient_memory<Arch, T>::numbers(z.group, z.dim_step(), z.width()) +
           chunk_tokens * (2 * z.group * z.width() + z.dim_step() + 1) + z.dim_step() +
           (2 + (z.decays_channels ? halvings : 0) + segments) * z.state() +
           kept * numbers_kept(z, has_beta) + numbers_of_ways(kept);
  }
  /// The state before a chunk, and u_t / beta_t.
  static index_type numbers_kept(const task_sizes<Arch, T>& z, bool has_beta) noexcept {
    return z.state() + (has_beta ? chunk_tokens * z.width() : 0);
  }

  void run() noexcept {
    load_state(state_of(c_.state), s_), load_state(state_of(g_.d_state), ds_);
    const index_type chunks = ceil_div(reader_.tokens(), chunk_tokens);
    const index_type segments = ceil_div(chunks, std::max<index_type>(kept_, 1));
    T* const starts = next_;
    for (index_type i = 0; i + 1 < segments; ++i) {
      copy_state(s_, state(starts + i * sizes_.state()));
      for (index_type c = i * kept_; c < (i + 1) * kept_; ++c) advance(c, s_, s_, {});
    }
    for (index_type i = segments - 1; i >= 0; --i) {
      if (i + 1 < segments) copy_state(state(starts + i * sizes_.state()), s_);
      const index_type first = i * kept_, end = std::min(chunks, first + kept_);
      if (first < end) copy_state(s_, kept_state(0));
      for (index_type c = first; c < end; ++c)
        ways_[c - first] = advance(c, kept_state(c - first), c + 1 < end ? kept_state(c + 1 - first) : s_,
                                   kept_rows(c - first));
      if (i + 1 == segments) chunk_gradient<Arch, T>::sum_rows(s_, ds_, later_);
      for (index_type c = end - 1; c >= first; --c) differentiate(c, c - first);
    }
    if (const auto to = state_of(g_.d_state); to.data) store_state(ds_, to);
  }

 private:
  T* take(index_type count) noexcept { return std::exchange(next_, next_ + count); }
  static index_type numbers_of_ways(index_type kept) noexcept {
    return round_up(ceil_div(kept, index_type(sizeof(T))), n);
  }
  strips state(T* first) const noexcept { return {first, x_.dim, x_.width}; }
  strips kept_state(index_type i) const noexcept {
    return state(chunks_ + i * numbers_kept(sizes_, c_.has_beta));
  }
  row_list<T> kept_rows(index_type i) const noexcept {
    return c_.has_beta ? row_list<T>{kept_state(i).first + sizes_.state(), x_.width} : row_list<T>{};
  }
  void copy_state(const strips& from, const strips& to) const noexcept {
    std::copy_n(from.first, sizes_.state(), to.first);
  }
  template <class E>
  matrix_view<E> state_of(const sequences<E>& s) const noexcept {
    return s.all.data ? s.head(reader_.batch(), reader_.kv_head()) : matrix_view<E>{};
  }

  /// The state after chunk c from that before it; `to` may be `from`. `unscaled`: of products alone.
  way advance(index_type c, const strips& from, const strips& to, const row_list<T>& unscaled) noexcept {
    reader_.read(c * chunk_tokens);
    chunk_prefetch soon;
    reader_.ask_for((c + 1) * chunk_tokens, soon.of_rows, false);
    if (chunk<Arch, T>(x_, from, chunk_, soon).advance(to, unscaled)) return way::products;
    if (to.first != from.first) copy_state(from, to);
    recur(x_, to);
    return way::token_by_token;
  }

  /// The gradients of chunk c, the i-th that is kept.
  void differentiate(index_type c, index_type i) noexcept {
    const index_type first = c * chunk_tokens;
    reader_.read(first);
    const bool copied = !as_read<Arch, T>(d_out(0), true);
    d_out_head_ = copied ? chunk_tokens * x_.width : g_.d_out.all.head_stride;
    for (index_type g = x_.group; g-- > 0;)
      d_out_ = read_rows<Arch, T>(d_out(g), range{first, first + x_.count}, true,
                                  {own_d_out_.row(g * chunk_tokens), own_d_out_.step});
    chunk_prefetch soon = block_before(first - chunk_tokens, i - 1);
    differentiate(x_, first, kept_state(i), ways_[i] == way::products ? kept_rows(i) : row_list<T>{}, 0,
                  soon);
  }

  /// Those of tokens `first` on: at once, or, where the decays of channels lie too far apart, a half at a
  /// time.
  void differentiate(const token_block<T>& x, index_type first, const strips& s, const row_list<T>& known,
                     index_type level, chunk_prefetch& soon) noexcept {
    place_results(first);
    if (known) m_.x = known;
    const chunk<Arch, T> forward(x, s, chunk_, soon);
    const row_list<const T> d_out{d_out_.row(first % chunk_tokens), d_out_.step};
    if (chunk_gradient<Arch, T>(x, forward, chunk_, s, ds_, d_out, d_out_head_, m_, soon).run(known) ||
        x.count == 1)
      return finish(x, first, {forward.of_channels().p.first, x_.dim_step});
    const index_type half = x.count / 2;
    const strips middle = state(halves_ + level * sizes_.state());
    copy_state(s, middle);
    recur(tokens_of(x, 0, half), middle);
    differentiate(tokens_of(x, half, x.count - half), first + half, middle, {}, level + 1, soon);
    differentiate(tokens_of(x, 0, half), first, s, {}, level + 1, soon);
  }

  /// Gradients go where they belong, if kernels can write there, else to rows that are stored in finish.
  void place_results(index_type first) noexcept {
    m_ = own_;
    const auto place = [&](row_list<T>& to, const auto& x) {
      if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(x)>::element, T>)
        if (as_read<Arch, T>(x, true)) to = {x.at(first), x.row_stride};
    };
    place(m_.d_right, d_k()), place(x_.beta ? m_.dx : m_.du, d_v());
    d_decay_ = own_d_decay_;
    if (x_.decays_channels && g_.d_decay.all.data) place(d_decay_, d_decay());
    const T* const own = m_.d_q.first;
    place(m_.d_q, d_q(0));
    if (m_.d_q.first != own) m_.d_q_head = g_.d_q.all.head_stride;
  }
  auto d_out(index_type g) const noexcept { return g_.d_out.head(reader_.batch(), reader_.head(g)); }
  auto d_decay() const noexcept { return g_.d_decay.head(reader_.batch(), reader_.kv_head()); }
  auto d_q(index_type g) const noexcept { return g_.d_q.head(reader_.batch(), reader_.head(g)); }
  auto d_k() const noexcept { return g_.d_k.head(reader_.batch(), reader_.kv_head()); }
  auto d_v() const noexcept { return g_.d_v.head(reader_.batch(), reader_.kv_head()); }
  /// Stores what is not in place.
  template <class E>
  void keep(const row_list<T>& from, const matrix_view<E>& to, index_type first, index_type count) noexcept {
    if (static_cast<const void*>(from.first) != static_cast<const void*>(to.at(first)))
      store_rows<T>(from, to, first, count);
  }

  /// `count` of the block's tokens.
  static token_block<T> tokens_of(token_block<T> x, index_type first, index_type count) noexcept {
    x.count = count;
    x.k.first = x.k.row(first), x.v.first = x.v.row(first), x.first_q.first = x.first_q.row(first);
    x.first_o.first = x.first_o.row(first);
    if (x.decay) x.decay.first = x.decay.row(first);
    if (x.beta) x.beta += first;
    return x;
  }

  /// d_q and d_k of what had length 1, the gradients of decays and beta; stores them all.
  /// `p`: P of channels.
  FOVEA_NOINLINE void finish(const token_block<T>& x, index_type first, const row_list<const T>& p) noexcept {
    const bool decay_asked = x.decay && g_.d_decay.all.data;
    if (x.decays_channels) finish_channels<Arch>(x, p, m_, later_, decay_asked ? d_decay_ : row_list<T>{});
    if (decay_asked && !x.decays_channels) token_decay_gradient<Arch>(x, m_, own_, later_, d_decay_.first);
    if (decay_asked) keep(d_decay_, d_decay(), first, x.count);
    std::copy_n(m_.row_sums, x.dim, later_);
    for (index_type t = 0; x.beta && !x.decays_channels && t < x.count; ++t)
      add(m_.d_left.row(t), m_.d_right.row(t), x.dim_step);
    if (x.beta && g_.d_beta.all.data) {
      for (index_type t = 0; t < x.count; ++t) d_beta_[t] = dot<Arch>(m_.z.row(t), m_.x.row(t), x.width);
      store_rows<T>({d_beta_, 1}, g_.d_beta.head(reader_.batch(), reader_.kv_head()), first, x.count);
    }
    const auto of_length_1 = [&](const row_list<const T>& unit, const T* inverse, const row_list<T>& d) {
      for (index_type t = 0; c_.l2_norm && t < x.count; ++t) {
        add(unit.row(t), d.row(t), x.dim_step, -dot<Arch>(unit.row(t), d.row(t), x.dim_step));
        for (index_type c = 0; c < x.dim_step; ++c) d.row(t)[c] *= inverse[first % chunk_tokens + t];
      }
    };
    of_length_1(x.k, reader_.key_factors(), m_.d_right);
    for (index_type g = 0; g < x.group; ++g) {
      of_length_1(x.q(g), reader_.query_factors(g), m_.d_q_of(g));
      keep(m_.d_q_of(g), d_q(g), first, x.count);
    }
    keep(m_.d_right, d_k(), first, x.count), keep(x.beta ? m_.dx : m_.du, d_v(), first, x.count);
  }

  /// The lines of the block from `first` on, of its gradients, and of what is kept of it, the i-th.
  chunk_prefetch block_before(index_type first, index_type i) const noexcept {
    chunk_prefetch lines;
    if (first < 0) return lines;
    reader_.ask_for(first, lines.of_rows), reader_.ask_for_numbers(first, lines.of_rest);
    const auto rows = reader_.rows_from(first);
    for (index_type g = 0; g < x_.group; ++g)
      lines.of_rows.add(kernel::line_use::read_l2, kernel::byte_view(d_out(g)), rows);
    if (i >= 0) {
      const index_type numbers = numbers_kept(sizes_, c_.has_beta);
      lines.of_rest.add(kernel::line_use::read_l2,
                        kernel::byte_view(matrix_view<const T>{kept_state(i).first, 1, numbers, numbers, 1}),
                        {0, 1});
    }
    lines.of_rest.add(kernel::line_use::write, kernel::byte_view(d_k()), rows);
    lines.of_rest.add(kernel::line_use::write, kernel::byte_view(d_v()), rows);
    if (g_.d_decay.all.data) lines.of_rest.add(kernel::line_use::write, kernel::byte_view(d_decay()), rows);
    return lines;
  }

  const Gradients& g_;
  const Call& c_;
  reader reader_;
  token_block<T>& x_;
  task_sizes<Arch, T> sizes_;
  index_type kept_;
  T* next_;
  chunk_memory<Arch, T> chunk_;
  gradient_memory<Arch, T> own_, m_;
  row_list<const T> d_out_;
  index_type d_out_head_ = 0;
  row_list<T> own_d_out_, unused_o_, own_d_decay_, d_decay_;
  T *d_beta_, *later_;
  way* ways_;  // of the chunks that are kept
  strips s_, ds_;
  T *halves_ = nullptr, *chunks_;
};

/// Memory of a backward call. A worker keeps the states before all chunks where they take up to 16 MiB; of
/// longer sequences those of so many chunks as take 2 MiB, at least 8, which are made once more from one
/// that is kept for each so many: 5 to 10 % less time at 16,384 tokens of 128 x 128 than 32 MiB that come
/// from memory (Zen 5), while at 64 x 64 making them twice costs 5 to 10 %. (There, with decays of channels,
/// 0.33 of the multiply-add peak are reached, 0.45 within caches: first reads of rows wait. Within noise:
/// rows asked for two chunks ahead, into L1, no results asked for, four registers of channels side by side.)
template <class Arch, class Gradients>
linear_attention_plan make_gradient_plan(const Gradients& g, index_type workers) {
  using Call = typename Gradients::forward_call;
  using T = typename Call::compute;
  constexpr index_type all_bytes = 16 << 20, near_bytes = 2 << 20;
  const auto& c = g.forward;
  linear_attention_plan p = sizes_of(c);
  p.engine = linear_engine::chunked, p.chunked_from = 1;
  p.jobs = p.tokens == 0 ? 0 : p.batches * p.kv_heads;
  const task_sizes<Arch, T> sizes{p.dim, p.value_dim, c.group(), c.decays_channels()};
  const index_type a_chunk =
      gradient_task<Arch, Gradients>::numbers_kept(sizes, c.has_beta) * index_type(sizeof(T));
  const index_type chunks = ceil_div(p.tokens, chunk_tokens);
  p.chunks_kept =
      chunks * a_chunk <= all_bytes
          ? chunks
          : std::min(chunks, std::max<index_type>(8, near_bytes / std::max<index_type>(a_chunk, 1)));
  p.numbers = gradient_task<Arch, Gradients>::numbers(sizes, c.has_beta, p.tokens, p.chunks_kept);
  share_scratch(p, p.jobs > 1 ? workers : 1, p.jobs);
  return p;
}

template <class Arch, class Gradients>
void differentiate(const Gradients& g, const linear_attention_plan& plan, executor_ref executor,
                   std::span<std::byte> given) {
  each_task(plan, executor, given, [&](index_type job, std::byte* memory) {
    gradient_task<Arch, Gradients>(g, plan, job, memory).run();
  });
}

}  // namespace linear
FOVEA_NAMESPACE_END
