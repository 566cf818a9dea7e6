// fovea/linear/read_tokens.hpp - tokens and states of a call as kernels read them: in place, or copies.
#pragma once

#include <fovea/element/inverse_length.hpp>
#include <fovea/linear/call.hpp>
#include <fovea/linear/chunk.hpp>
#include <fovea/linear/plan.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// Rows [first, first + count) of x, and 0 beyond its columns.
template <class T, class E>
FOVEA_NOINLINE void copy_rows(const matrix_view<const E>& x, index_type first, index_type count,
                              const row_list<T>& to) noexcept {
  if (to.step == 1) return load_elements(x.at(first), x.row_stride, count, to.first);
  for (index_type t = 0; t < count; ++t) {
    load_elements(x.at(first + t), x.col_stride, x.cols, to.row(t));
    for (index_type c = x.cols; c < to.step; ++c) to.row(t)[c] = T(0);
  }
}

/// Back, to rows [first, first + count) of x.
template <class T, class E>
FOVEA_NOINLINE void store_rows(const row_list<const T>& from, const matrix_view<E>& x, index_type first,
                               index_type count) noexcept {
  if (from.step == 1) return store_elements(from.first, count, x.at(first), x.row_stride);  // a number a row
  for (index_type t = 0; t < count; ++t) store_elements(from.row(t), x.cols, x.at(first + t), x.col_stride);
}

inline constexpr double added_to_squares = 1e-6;

/// to_t = x_t / sqrt(sum x_t^2 + 1e-6), rows of whole registers; `inverse`: what they are multiplied by. Rows
/// whose squares are large are few: they may take their time.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void to_length_1(const row_list<const T>& x, index_type count, index_type width,
                                              const row_list<T>& to, T* inverse) noexcept {
  using R = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr T large = sizeof(T) == 4 ? T(1e30) : T(1e290);
  for (index_type t = 0; t < count; ++t) {
    const T* const row = x.row(t);
    R sum(T(0));
    for (index_type c = 0; c < width; c += n)
      sum = kernel::isa<Arch>::fma(R::load_unaligned(row + c), R::load_unaligned(row + c), sum);
    const T squares = total<Arch, T>(sum);
    if (squares < large) {
      inverse[t] = 1 / std::sqrt(squares + T(added_to_squares));
      for (index_type c = 0; c < width; c += n)
        (R::load_unaligned(row + c) * R(inverse[t])).store_unaligned(to.row(t) + c);
    } else {
      const split_factor by = inverse_length(row, width, 1, added_to_squares);
      inverse[t] = static_cast<T>(by.value());
      for (index_type c = 0; c < width; ++c) to.row(t)[c] = by.times(row[c]);
    }
  }
}

/// e^x of round_up(count, lanes) numbers. Infinite from 2^128 (2^1024) on; less than the smallest normal
/// number is 0.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void exponentials(const T* x, index_type count, T* to) noexcept {
  using R = vec<Arch, T>;
  for (index_type c = 0; c < count; c += lanes<Arch, T>) {
    const R given = R::load_unaligned(x + c) * R(T(1.4426950408889634074));
    const R most(sizeof(T) == 4 ? T(127.9999) : T(1023.9999));
    const R power = kernel::isa<Arch>::exp2_or_zero(xsimd::min(most, given), R(kernel::exp2_limits<T>::zero));
    const R large = xsimd::select(given > most, R(std::numeric_limits<T>::infinity()), power);
    xsimd::select(given == given, large, given).store_aligned(to + c);
  }
}

/// f(a strip's first number of row i, i, the strip's first column, its columns) for all strips of S.
template <class Arch, class T, class F>
void each_strip_row(const state_strips<Arch, T>& s, const F& f) noexcept {
  for (index_type j = 0; j < s.count(); ++j)
    for (index_type i = 0; i < s.dim; ++i) f(s.strip(j) + i * s.width_of(j), i, s.column(j), s.width_of(j));
}

/// S from its rows, 0 beyond its columns and where there are none; and back.
template <class Arch, class T, class E>
void load_state(const matrix_view<E>& from, const state_strips<Arch, T>& s) noexcept {
  each_strip_row(s, [&](T* to, index_type i, index_type first, index_type width) {
    std::fill_n(to, width, T(0));
    if (from.data) load_elements(from.at(i, first), from.col_stride, std::min(width, from.cols - first), to);
  });
}
template <class Arch, class T, class E>
void store_state(const state_strips<Arch, T>& s, const matrix_view<E>& to) noexcept {
  each_strip_row(s, [&](const T* from, index_type i, index_type first, index_type width) {
    kernel::store_row<Arch, T>(from, std::min(width, to.cols - first), to.at(i, first), to.col_stride);
  });
}

/// Whether rows of x are what kernels read, in whole registers (at least one) if that is asked for.
template <class Arch, class T, class E>
bool as_read(const matrix_view<E>& x, bool registers) noexcept {
  return std::is_same_v<std::remove_const_t<E>, T> && x.col_stride == 1 &&
         (!registers || (x.cols > 0 && x.cols % lanes<Arch, T> == 0));
}

/// Some rows of x where they lie, or, where kernels cannot read those, a copy.
template <class Arch, class T, class E>
row_list<const T> read_rows(const matrix_view<const E>& x, range rows, bool registers,
                            const row_list<T>& copy, bool copied = false) noexcept {
  if constexpr (std::is_same_v<E, T>)
    if (!copied && as_read<Arch, T>(x, registers)) return {x.at(rows.first), x.row_stride};
  copy_rows(x, rows.first, rows.size(), copy);
  return copy;
}

/// Reads the tokens of a key/value head of a sequence, a block at a time.
template <class Arch, class Call>
class token_reader {
  using T = typename Call::compute;
  static constexpr index_type n = lanes<Arch, T>, largest_in_l1 = 4096;  // bytes of a block's rows

 public:
  static index_type numbers(const task_sizes<Arch, T>& sizes) noexcept {
    return chunk_tokens * ((sizes.group + 2) * sizes.dim_step() + sizes.width() + sizes.group + 2);
  }
  /// `registers`: rows of q and k are whole registers.
  token_reader(const Call& call, index_type job, bool registers, T* memory) noexcept
      : c_(call),
        b_(job / call.k.heads()),
        h_(job % call.k.heads()),
        registers_(registers),
        k_(call.k.head(b_, h_)),
        v_(call.v.head(b_, h_)) {
    const task_sizes<Arch, T> sizes{k_.cols, v_.cols, call.group(), call.decays_channels()};
    const auto take = [&](index_type count) { return std::exchange(memory, memory + count); };
    x_.group = sizes.group, x_.dim = sizes.dim, x_.dim_step = sizes.dim_step(), x_.width = sizes.width();
    x_.decays_channels = c_.decays_channels();
    own_q_ = {take(x_.group * chunk_tokens * x_.dim_step), x_.dim_step};
    own_k_ = {take(chunk_tokens * x_.dim_step), x_.dim_step};
    own_decay_ = {take(chunk_tokens * x_.dim_step), x_.decays_channels ? x_.dim_step : 1};
    own_v_ = {take(chunk_tokens * x_.width), x_.width};
    of_query_ = take(x_.group * chunk_tokens);
    of_key_ = take(chunk_tokens);
    own_beta_ = {take(chunk_tokens), 1};
    x_.scale = c_.scale;
  }

  token_block<T>& block() noexcept { return x_; }
  const token_block<T>& block() const noexcept { return x_; }
  index_type tokens() const noexcept { return k_.rows; }
  index_type batch() const noexcept { return b_; }
  index_type kv_head() const noexcept { return h_; }
  index_type head(index_type g) const noexcept { return h_ * x_.group + g; }
  auto query(index_type g) const noexcept { return c_.q.head(b_, head(g)); }
  /// With l2_norm 1 / |k| of the block's keys, 1 / |q| of its queries.
  const T* key_factors() const noexcept { return of_key_; }
  const T* query_factors(index_type g) const noexcept { return of_query_ + g * chunk_tokens; }

  /// Blocks are of `tokens` tokens, at most chunk_tokens.
  void take_at_once(index_type tokens) noexcept { at_once_ = tokens; }

  /// The block from `first` on: of `most` tokens where those are fewer, and of no more than are left.
  void read(index_type first, index_type most = chunk_tokens) noexcept {
    range rows = rows_from(first);
    rows.last = std::min(rows.last, rows.first + most);
    x_.count = rows.size();
    const bool registers = registers_ || x_.decays_channels;
    bool copied_q = c_.l2_norm || o_is_q();
    for (index_type g = 0; g < x_.group; ++g) copied_q |= !as_read<Arch, T>(query(g), registers);
    x_.q_head = copied_q ? chunk_tokens * x_.dim_step : c_.q.all.head_stride;
    for (index_type g = x_.group; g-- > 0;) {
      const row_list<T> own{own_q_.row(g * chunk_tokens), own_q_.step};
      x_.first_q = c_.l2_norm ? unit_rows(query(g), rows, own, of_query_ + g * chunk_tokens)
                              : read_rows<Arch, T>(query(g), rows, registers, own, copied_q);
    }
    x_.k =
        c_.l2_norm ? unit_rows(k_, rows, own_k_, of_key_) : read_rows<Arch, T>(k_, rows, registers, own_k_);
    x_.v = read_rows<Arch, T>(v_, rows, true, own_v_);
    if (c_.has_beta) copy_rows(c_.beta.head(b_, h_), first, x_.count, own_beta_), x_.beta = own_beta_.first;
    if (c_.has_decay) read_decay(first);
  }

  /// Adds the rows that `read(first)` reads to what is asked for soon: into L1 where they lie one after
  /// another and are few (2 % less time at 64 x 64 than from L2). `queries`: those too.
  void ask_for(index_type first, kernel::prefetch& lines, bool queries = true) const noexcept {
    const auto ask = [&](const auto& x) {
      const kernel::byte_view bytes(x);
      const bool near =
          bytes.row_stride == bytes.cols * bytes.element && bytes.row_stride * at_once_ <= largest_in_l1;
      lines.add(near ? kernel::line_use::read : kernel::line_use::read_l2, bytes, rows_from(first));
    };
    if (x_.decays_channels) ask(c_.decay.head(b_, h_));
    ask(k_), ask(v_);
    for (index_type g = 0; queries && g < x_.group; ++g) ask(query(g));
  }
  /// The same of the numbers a token. (Forward, which goes the way a processor guesses, lost 1 to 3 % by it;
  /// backward gains 2.)
  void ask_for_numbers(index_type first, kernel::prefetch& lines) const noexcept {
    const auto ask = [&](const auto& x) {
      lines.add(kernel::line_use::read, kernel::byte_view(x), rows_from(first));
    };
    if (c_.has_decay && !x_.decays_channels) ask(c_.decay.head(b_, h_));
    if (c_.has_beta) ask(c_.beta.head(b_, h_));
  }
  /// Whether results overwrite queries, rows of which are read more than once while those of o are written.
  bool o_is_q() const noexcept {
    return static_cast<const void*>(c_.out.all.data) == static_cast<const void*>(c_.q.all.data);
  }
  /// The rows of the block from `first` on, which may be none.
  range rows_from(index_type first) const noexcept {
    const auto within = [&](index_type t) { return std::clamp(t, index_type(0), tokens()); };
    return {within(first), within(first + at_once_)};
  }

 private:
  /// Some rows of x, of length 1.
  template <class E>
  row_list<const T> unit_rows(const matrix_view<const E>& x, range rows, const row_list<T>& to,
                              T* inverse) const noexcept {
    to_length_1<Arch, T>(read_rows<Arch, T>(x, rows, true, to), rows.size(), x_.dim_step, to, inverse);
    return to;
  }
  /// Of channels e^x of rows where they lie: a copy of them first took a tenth of the time.
  void read_decay(index_type first) noexcept {
    const auto given = c_.decay.head(b_, h_);
    x_.decay = own_decay_;
    if (x_.decays_channels) {
      const row_list<const T> rows = read_rows<Arch, T>(given, {first, first + x_.count}, true, own_decay_);
      for (index_type t = 0; t < x_.count; ++t)
        exponentials<Arch, T>(rows.row(t), own_decay_.step, own_decay_.row(t));
      return;
    }
    const T* logarithms = own_decay_.first;
    if constexpr (std::is_same_v<typename decltype(given)::element, const T>)
      if (given.row_stride == 1 && x_.count % n == 0) logarithms = given.at(first);
    if (logarithms == own_decay_.first) {
      copy_rows(given, first, x_.count, own_decay_);
      for (index_type t = x_.count; t % n != 0; ++t) *own_decay_.row(t) = T(0);
    }
    exponentials<Arch, T>(logarithms, x_.count, own_decay_.first);
  }

  const Call& c_;
  index_type b_, h_;
  bool registers_;
  index_type at_once_ = chunk_tokens;
  decltype(std::declval<Call>().k.head(0, 0)) k_;
  decltype(std::declval<Call>().v.head(0, 0)) v_;
  token_block<T> x_;
  row_list<T> own_q_, own_k_, own_v_, own_decay_, own_beta_;  // copies, where they are needed
  T *of_query_, *of_key_;
};

}  // namespace linear
FOVEA_NAMESPACE_END
