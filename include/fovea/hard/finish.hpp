// fovea/hard/finish.hpp - what a row picked, from what its state stored; and the value rows that it reads.
#pragma once

#include <fovea/hard/pick.hpp>
#include <fovea/kv_cache/read_tokens.hpp>
#include <fovea/score/concept.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN

/// The picks of one row: keys[0] to keys[found - 1], with their logits, largest first. A sink that was
/// drawn, or a row that sees no key: none found. `nan`: the row sees one.
template <int Picks>
struct row_picks {
  int found = 0;
  bool nan = false;
  index_type keys[std::size_t{Picks}] = {};
  double logits[std::size_t{Picks}] = {}, lse = -std::numeric_limits<double>::infinity();
  double sink = -std::numeric_limits<double>::infinity();
  bool took_sink = false;

  /// log softmax(s) of pick i, the sink being part of the softmax; of nothing where nothing was picked: that
  /// of the sink, and 0 where there was no choice.
  double log_p(int i) const noexcept {
    if (nan) return std::numeric_limits<double>::quiet_NaN();
    if (i < found) return logits[i] - lse;
    return i == 0 && took_sink ? sink - lse : 0;
  }
  /// The weights of the picks, which sum to 1 with the sink's where there are several.
  double weight(int i) const noexcept {
    if (Picks == 1) return 1;
    const double m = std::max(logits[0], sink);
    double sum = sink > -std::numeric_limits<double>::infinity() ? std::exp(sink - m) : 0;
    for (int j = 0; j < found; ++j) sum += std::exp(logits[j] - m);
    return std::exp(logits[i] - m) / sum;
  }
};

/// `stored`: of the choice's state, Sum or not. `sink`: null, or a logit.
template <bool Sum, class Choice, class T>
row_picks<Choice::picks> finish_row(const Choice& choice, const place& at, index_type query, const T* stored,
                                    const double* sink) noexcept {
  using state = decltype(choice.template bind<Sum>(at));
  constexpr double none = -std::numeric_limits<double>::infinity();
  row_picks<Choice::picks> row;
  row.nan = stored[0] != stored[0];
  for (int i = 0; i < Choice::picks && stored[i] > T(none); ++i, ++row.found) {
    row.keys[i] = key_with_bits(stored[Choice::picks + i]);
    row.logits[i] = static_cast<double>(stored[Sum && Choice::samples ? state::logit : i]);
  }
  double sum = 0, most = none;
  if constexpr (Sum)
    sum = static_cast<double>(stored[state::sum]), most = static_cast<double>(stored[state::most]);
  if (sink != nullptr) {
    row.sink = *sink;
    double rival = row.sink;
    if constexpr (Choice::samples)
      rival += choice.noise(at).template at<double>(std::int64_t(query), std::int64_t(-1));
    if (Choice::picks == 1 && !row.nan && rival > static_cast<double>(stored[0]))
      row.found = 0, row.took_sink = true;
    if (row.sink > none)
      sum = sum_of_both(sum, most, 1.0, row.sink), most = row.sink > most ? row.sink : most;
  }
  if constexpr (Sum)
    if (sum != 0) row.lse = most + std::log(sum);
  if (row.nan) row.found = 0, row.lse = std::numeric_limits<double>::quiet_NaN();
  return row;
}

/// sums += weight * row `key` of a head of values; `row`: room for one of its rows.
template <class T, class Head>
void add_value_row(const Head& head, index_type key, double weight, T* sums, T* row) noexcept {
  const T factor = static_cast<T>(weight);
  caching::read_tokens(head, {key, key + 1}, row, head.cols);
  for (index_type c = 0; c < head.cols; ++c) sums[c] += factor * row[c];
}

/// O = the values of the picks, weighed; 0 where there are none, NaN where the row sees one.
template <int Picks, class T, class Head, class OE>
void write_picked_values(const row_picks<Picks>& row, const Head& values, OE* out, index_type stride, T* sums,
                         T* room) noexcept {
  const T start = row.nan ? std::numeric_limits<T>::quiet_NaN() : T(0);
  for (index_type c = 0; c < values.cols; ++c) sums[c] = start;
  for (int i = 0; i < row.found; ++i) add_value_row(values, row.keys[i], row.weight(i), sums, room);
  store_elements(sums, values.cols, out, stride);
}

FOVEA_NAMESPACE_END
