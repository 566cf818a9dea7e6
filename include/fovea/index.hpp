// fovea/index.hpp - indices, ranges of rows and keys, and how the library says no.
#pragma once

#include <fovea/config.hpp>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

using index_type = std::ptrdiff_t;

/// A number of heads that is known at run time only (the value of Eigen::Dynamic).
inline constexpr int dynamic_heads = -1;

/// The half-open range of rows or keys [first, last).
struct range {
  index_type first = 0, last = 0;
  constexpr index_type size() const noexcept { return last > first ? last - first : 0; }
  constexpr bool empty() const noexcept { return last <= first; }
  friend constexpr bool operator==(const range&, const range&) = default;
};

constexpr range intersect(range a, range b) noexcept {
  return {std::max(a.first, b.first), std::min(a.last, b.last)};
}

/// How much of a block of rows x keys a mask shows.
enum class coverage { none, partial, full };

/// The diagonal of a causal mask, by the name of the mask: query 0 stands at key `first_query`.
struct named_diagonal {
  const char* name = nullptr;
  index_type first_query = 0;
};

/// Where the first query stands among the keys, if that is said; a number in itself, 0 where not.
class offset_if_given {
 public:
  constexpr offset_if_given() noexcept = default;
  constexpr offset_if_given(index_type n) noexcept : offset_(n), given_(true) {}
  constexpr bool has_value() const noexcept { return given_; }
  constexpr operator index_type() const noexcept { return offset_; }

 private:
  index_type offset_ = 0;
  bool given_ = false;
};

/// Where a mask or a score stands: one query head of one sequence, and the sizes around it.
struct place {
  index_type batch = 0, head = 0;     // which sequence, which query head
  index_type batches = 1, heads = 1;  // of how many
  index_type queries = 0, keys = 0;   // tokens of this sequence
  bool in_cache = false;              // the keys are a cache's: the queries are its last tokens
  named_diagonal diagonal = {};       // what a mask of the call says of where the first query stands,
  named_diagonal other = {};          // and what another one says that does not agree

  /// Where the first query stands among the keys, as far as the call itself tells.
  constexpr index_type first_query() const noexcept { return in_cache ? keys - queries : 0; }
  /// Throws std::invalid_argument, with both numbers, where the call does not tell: unless there are as many
  /// queries as keys, or a cache that holds the queries. `instead`: what its user may say.
  void check_first_query(const char* name, const char* instead = "") const;

  /// The same, where the mask itself says it, else a mask of the call with a diagonal, else the call.
  constexpr index_type named_first_query(offset_if_given offset) const noexcept {
    if (offset.has_value()) return offset;
    return diagonal.name != nullptr ? diagonal.first_query : first_query();
  }
  void check_named_first_query(const char* name, offset_if_given offset) const;

  /// What k - q of this sequence is compared with in place of n, which may be any number: the answers are
  /// the same.
  constexpr index_type nearest_difference(index_type n) const noexcept {
    return std::clamp(n, -queries, keys);
  }

  constexpr void name(const named_diagonal& by) noexcept {
    if (diagonal.name == nullptr)
      diagonal = by;
    else if (other.name == nullptr && by.first_query != diagonal.first_query)
      other = by;
  }
};

/// Masks, scores and dropout are asked for positions in 32 bits: a longer sequence is refused where there
/// are any.
inline constexpr index_type most_positions = 2147483647;

/// How many matrices a bound mask or score reads a cell of: `matrices`, or none.
template <class X>
inline constexpr int matrices_of = 0;
template <class X>
  requires requires { std::remove_cvref_t<X>::matrices; }
inline constexpr int matrices_of<X> = std::remove_cvref_t<X>::matrices;

/// A mask or score with what it reads in a block of cells staged (copied); where it reads nothing, x: a copy
/// of a few numbers that bind() returned, which then stay in registers, a reference to anything else.
/// Kept: how a list keeps x. What a user gave, whatever it captures, is kept as a reference and never
/// copied.
template <class Kept, class Block>
decltype(auto) staged_of(const std::remove_cvref_t<Kept>& x, Block& block) noexcept {
  using X = std::remove_cvref_t<Kept>;
  constexpr std::size_t few_numbers = 256;
  if constexpr (matrices_of<X> > 0)
    return x.staged(block);
  else if constexpr (std::is_reference_v<Kept> || !std::is_trivially_copyable_v<X> || sizeof(X) > few_numbers)
    return (x);
  else
    return X(x);
}

/// f(matrix_view) for each matrix that a bound mask or score reads.
template <class X, class F>
void each_matrix_of(const X& x, const F& f) noexcept {
  if constexpr (matrices_of<X> > 0) x.each_matrix(f);
}

/// f(name, view or list) for each argument of the user's that a mask, a score or a sink reads, where it
/// tells: it has each_operand(f).
template <class X, class F>
void each_operand_of(const X& x, const F& f) {
  if constexpr (requires { x.each_operand(f); }) x.each_operand(f);
}

/// a + b, or the nearest number that there is.
constexpr index_type saturated_sum(index_type a, index_type b) noexcept {
  constexpr index_type least = std::numeric_limits<index_type>::min(),
                       most = std::numeric_limits<index_type>::max();
  if (b > 0) return a > most - b ? most : a + b;
  return a < least - b ? least : a + b;
}

/// 0 to d - 1.
constexpr index_type modulo(index_type n, index_type d) noexcept { return n % d < 0 ? n % d + d : n % d; }
/// n / d, rounded up. (Not (n + d - 1) / d: a block may be as long as an index can count.)
constexpr index_type ceil_div(index_type n, index_type d) noexcept { return n / d + (n % d > 0 ? 1 : 0); }
constexpr index_type round_up(index_type n, index_type to) noexcept { return ceil_div(n, to) * to; }

/// Whether x is neither NaN nor infinite, asked of its bits: compilers may be told that no number is.
template <class T>
constexpr bool is_finite(T x) noexcept {
  if constexpr (sizeof(T) == 4)
    return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
  else
    return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

/// A number as a V: a scalar, a SIMD batch, or a dual number of either.
template <class V, class N>
V number_as(N x) noexcept {
  if constexpr (requires { typename V::value_type; })
    return V(static_cast<typename V::value_type>(x));
  else
    return static_cast<V>(x);
}

/// Throws Error with the parts joined to one sentence; numbers are written in decimal. Without exceptions the
/// sentence goes to FOVEA_ERROR_HANDLER (config.hpp). (Not inlined, but static: each object has its own.
/// Inlined, sentences took a quarter of the time that compiling a call takes.)
template <class Error, class... Parts>
[[noreturn]] FOVEA_COLD static void reject_as(Parts... parts) {
  std::string text = "fovea: ";
  [[maybe_unused]] char digits[32];  // as few as tell the number from all others
  const auto add = [&](const auto& part) {
    if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(part)>>)
      text.append(digits, std::to_chars(digits, digits + sizeof digits, static_cast<double>(part)).ptr);
    else if constexpr (requires { std::to_string(part); })
      text += std::to_string(part);
    else
      text += part;
  };
  (add(parts), ...);
#if FOVEA_EXCEPTIONS
  throw Error(text);
#else
  FOVEA_ERROR_HANDLER(text.c_str());
#endif
}
/// For an argument that is wrong: names it and both values.
template <class... Parts>
[[noreturn]] void reject(Parts... parts) {
  reject_as<std::invalid_argument>(parts...);
}
inline void place::check_first_query(const char* name, const char* instead) const {
  if (in_cache && queries > keys)
    reject(name, ": q has ", queries, " tokens, more than the ", keys, " in the cache");
  if (!in_cache && queries != keys)
    reject(name, " needs as many queries as keys, not ", queries, " queries and ", keys, " keys", instead);
}
inline void place::check_named_first_query(const char* name, offset_if_given offset) const {
  if (offset.has_value()) return;
  if (other.name != nullptr)
    reject(name, " stands beside ", diagonal.name, " (k <= q + ", diagonal.first_query, ") and ", other.name,
           " (k <= q + ", other.first_query, "), and could be relative to either; say .offset = n");
  if (diagonal.name == nullptr)
    check_first_query(name,
                      "; say .offset = n (the first query stands at key n), or join it to a causal mask that "
                      "says so: causal_top_left, causal_bottom_right, causal_offset{n}");
}
/// For sizes whose product no index can count: names the sizes.
template <class... Parts>
[[noreturn]] void reject_length(Parts... parts) {
  reject_as<std::length_error>(parts...);
}

/// Whether a product of sizes is one that can be counted: up to 2^62, where a size of 0 is taken for 1, so
/// that every part of the product is counted as well. (In double: a few instructions, no division.)
template <class... N>
constexpr bool countable(N... sizes) noexcept {
  const auto factor = [](double size) { return size > 1 ? size : size < -1 ? -size : 1; };
  return (1.0 * ... * factor(static_cast<double>(sizes))) <= 0x1p62;
}
template <class... N>
[[noreturn]] FOVEA_COLD static void reject_sizes(const char* what, N... sizes) {
  std::string text;
  ((text += (text.empty() ? "" : " x ") + std::to_string(sizes)), ...);
  reject_length(what, " of ", text, " is more than can be counted");
}
/// The product of the sizes of `what`; throws std::length_error, naming them, where it can not be counted.
/// (Where memory is meant, the bytes of an element are one of the sizes.)
template <class... N>
constexpr index_type size_product(const char* what, N... sizes) {
  if (!countable(sizes...)) reject_sizes(what, sizes...);
  return (index_type(1) * ... * static_cast<index_type>(sizes));
}

/// work(); where that throws, undo() and the same exception on.
template <class Work, class Undo>
void do_or_undo(const Work& work, const Undo& undo) {
#if FOVEA_EXCEPTIONS
  try {
    work();
  } catch (...) {
    undo();
    throw;
  }
#else
  static_cast<void>(undo);
  work();
#endif
}

/// Whether a size is that of all, or 1, which is repeated.
inline void check_one_or_all(index_type has, index_type full, const char* name, const char* what) {
  if (has != 1 && has != full) reject(name, " has ", has, " ", what, ", neither 1 nor ", full);
}

FOVEA_NAMESPACE_END
