// fovea/linear/run.hpp - a call of linear attention: reads tokens, runs an engine, stores o and the state.
#pragma once

#include <fovea/linear/decode.hpp>
#include <fovea/linear/read_tokens.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// One state: a key/value head of a sequence, in memory of its own.
template <class Arch, class Call>
class task {
  using T = typename Call::compute;
  using S = typename Call::state_element;
  static constexpr index_type few_tokens = 4;  // so many go in the caller's state, if kernels can read it
  /// States of up to so many numbers (delta rules four times as many) go through 16 tokens at a time, others
  /// through 32: the work on what tokens of a chunk have to do with each other grows with the chunk, reads
  /// and writes of the state shrink with it. Zen 5, 64 x 64: 6 % less time with 16, AVX2 7 to 10 %;
  /// 128 x 128: delta rules 1 to 7 %, others 1 to 3 % more.
  static constexpr index_type largest_of_short = 64 * 64;

 public:
  task(const Call& call, const linear_attention_plan& plan, index_type job, std::byte* memory) noexcept
      : c_(call), reader_(call, job, false, reinterpret_cast<T*>(memory)), x_(reader_.block()) {
    chunked_ = plan.engine == linear_engine::chunked && reader_.tokens() >= plan.chunked_from;
    const task_sizes<Arch, T> sizes{x_.dim, call.v.dim(), x_.group, x_.decays_channels};
    T* next = reinterpret_cast<T*>(memory) + token_reader<Arch, Call>::numbers(sizes);
    const auto take = [&](index_type count) { return std::exchange(next, next + count); };
    own_o_ = {take(x_.group * chunk_tokens * x_.width), x_.width};
    s_ = {take(sizes.state()), x_.dim, x_.width};
    chunk_ = next;
    if (chunked_ && x_.dim * x_.width <= (c_.has_beta ? 4 : 1) * largest_of_short)
      reader_.take_at_once(chunk_tokens / 2);
    if (!c_.has_beta && x_.dim * x_.width <= largest_of_short) blocks_ahead_ = 2;
  }
  static index_type numbers(const task_sizes<Arch, T>& sizes, bool chunked) noexcept {
    return token_reader<Arch, Call>::numbers(sizes) + sizes.group * chunk_tokens * sizes.width() +
           sizes.state() +
           (chunked ? chunk_memory<Arch, T>::numbers(sizes.dim_step(), sizes.width(), sizes.decays_channels)
                    : 0);
  }

  /// `next_job`: the one after this on the same worker, if tasks are handed out in order; its state is
  /// fetched.
  void run(index_type next_job) noexcept {
    const bool there = in_place();
    matrix_view<S> own;
    if (c_.has_state) own = c_.state.head(reader_.batch(), reader_.kv_head());
    if (!there) load_state(own, s_);
    const chunk_memory<Arch, T> memory(chunk_, x_.dim_step, x_.width, x_.decays_channels);
    for (index_type first = 0; first < reader_.tokens(); first += x_.count) {
      reader_.read(first, c_.has_snapshots ? c_.every - first % c_.every : chunk_tokens);
      const bool copied_o = results(first);
      chunk_prefetch soon = next_block(first + blocks_ahead_ * x_.count);
      if (there)
        decode_in_place(next_job);
      else if (!chunked_ || !chunk<Arch, T>(x_, s_, memory, soon).run())
        recur(x_, s_);
      for (index_type g = 0; copied_o && g < x_.group; ++g) store_rows<T>(x_.o(g), out(g), first, x_.count);
      if (c_.has_snapshots && (first + x_.count) % c_.every == 0)
        keep((first + x_.count) / c_.every - 1, there);
    }
    if (!there && c_.has_state) store_state(s_, own);
  }

 private:
  /// The i-th snapshot; `there`: the state is the caller's.
  void keep(index_type i, bool there) noexcept {
    const index_type a_sequence = c_.q.max_tokens() / c_.every;
    if (there) load_state(c_.state.head(reader_.batch(), reader_.kv_head()), s_);
    store_state(s_, c_.snapshots.head(reader_.batch() * a_sequence + i, reader_.kv_head()));
  }

  /// Whether tokens go straight to the caller's state: one, or where nothing is rounded a few.
  static constexpr bool rounds = !std::is_same_v<S, T>;
  bool in_place() const noexcept {
    if constexpr (rounds && !(bf16_element<S> && std::is_same_v<T, float>)) return false;
    if (!c_.has_state || chunked_ || reader_.tokens() > (rounds ? 1 : few_tokens)) return false;
    const auto own = c_.state.head(reader_.batch(), reader_.kv_head());
    return own.col_stride == 1 && own.cols % lanes<Arch, T> == 0 && own.cols > 0 && own.row_stride != 0;
  }

  void decode_in_place(index_type next_job) noexcept {
    if constexpr (!rounds || (bf16_element<S> && std::is_same_v<T, float>)) {
      const auto own = c_.state.head(reader_.batch(), reader_.kv_head());
      const index_type heads = c_.k.heads();
      const bool last = next_job >= c_.k.batches() * heads;
      const S* const next = last ? nullptr : c_.state.head(next_job / heads, next_job % heads).data;
      decode<Arch, T, S>(x_, own.data, own.row_stride, next).run();
    }
  }

  auto out(index_type g) const noexcept { return c_.out.head(reader_.batch(), reader_.head(g)); }

  /// Where results of the block from `first` on go: in place, or, true, to rows that are copied from.
  bool results(index_type first) noexcept {
    if constexpr (std::is_same_v<typename decltype(out(0))::element, T>)
      if (as_read<Arch, T>(out(0), true)) {
        x_.first_o = {out(0).at(first), out(0).row_stride}, x_.o_head = c_.out.all.head_stride;
        return false;
      }
    x_.first_o = own_o_, x_.o_head = chunk_tokens * x_.width;
    return true;
  }

  /// The lines of the tokens from `first` on: rows may lie pages apart, where no processor guesses the next,
  /// and all of them asked for at once made the next instructions wait (a fifth of the time at d 64).
  /// Short chunks of small states end before memory has answered: two of them ahead 64 x 64 takes 4 % less
  /// time at 16,384 tokens and 1 % more within caches (three or four ahead 2 % more than one); with the delta
  /// rule and at 128 x 128 it takes 0 to 2 % more.
  chunk_prefetch next_block(index_type first) const noexcept {
    chunk_prefetch lines;
    reader_.ask_for(first, lines.of_rows);
    for (index_type g = 0; g < x_.group; ++g)
      lines.of_rows.add(kernel::line_use::write, kernel::byte_view(out(g)), reader_.rows_from(first));
    return lines;
  }

  const Call& c_;
  token_reader<Arch, Call> reader_;
  token_block<T>& x_;
  bool chunked_;
  index_type blocks_ahead_ = 1;
  row_list<T> own_o_;
  state_strips<Arch, T> s_;
  T* chunk_;
};

/// Engine and memory of a call. The engine depends on sizes of each sequence alone, so that bits do too.
template <class Arch, class Call>
linear_attention_plan make_plan(const Call& c, linear_engine wanted, index_type workers) {
  constexpr index_type worth_waking = 200'000;  // operations
  linear_attention_plan p = sizes_of(c);
  p.engine = wanted == linear_engine::recurrence ? wanted : linear_engine::chunked;
  p.chunked_from = wanted == linear_engine::chunked ? 1 : chunk_tokens / 2;
  if (p.tokens < p.chunked_from) p.engine = linear_engine::recurrence;
  p.jobs = p.value_dim == 0 || p.tokens == 0 ? 0 : p.batches * p.kv_heads;
  p.numbers = task<Arch, Call>::numbers({p.dim, p.value_dim, c.group(), c.decays_channels()},
                                        p.engine == linear_engine::chunked);
  const double operations =
      4.0 * double(p.batches) * double(p.heads) * double(p.tokens) * double(p.dim) * double(p.value_dim);
  share_scratch(p, p.jobs > 1 && operations > double(worth_waking) ? workers : 1, p.jobs);
  return p;
}

/// The whole call.
template <class Arch, class Call>
void run(const Call& c, const linear_attention_plan& plan, executor_ref executor,
         std::span<std::byte> given) {
  each_task(plan, executor, given, [&](index_type job, std::byte* memory) {
    task<Arch, Call>(c, plan, job, memory).run(job + plan.workers);
  });
}

}  // namespace linear
FOVEA_NAMESPACE_END
