// fovea/hard/reference.hpp - the specification of hard attention, in double, row by row.
#pragma once

#include <fovea/hard/pick.hpp>
#include <fovea/reference.hpp>

#include <algorithm>
#include <numeric>

FOVEA_NAMESPACE_BEGIN

/// out, picks, log_p and lse as hard<...>::with_log_p gives them, and what was compared: logits, with the
/// noise of sampled, batch x heads x Lq x Lk; -inf where hidden.
struct hard_reference_result {
  tensor<double> out, log_p, lse, compared;
  tensor<index_type> picks;
};

/// Hard attention as hard.hpp defines it; the arguments are those of reference, with a choice.
template <viewable Q, viewable K, viewable V, choice_like Choice, class... Mods>
hard_reference_result hard_reference(const Q& q, const K& k, const V& v, reference_options options,
                                     const Choice& choice, const Mods&... mods) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  const auto call = reference_call_of(q, k, v, options);
  decltype(auto) sink = sink_of(mods...);
  const index_type batches = call.q.batches(), heads = call.heads, queries = call.q.max_tokens(),
                   keys = call.k.max_tokens();
  hard_reference_result r{{batches, heads, queries, call.v.dim()},
                          {batches, heads, queries, Choice::picks},
                          {batches, heads, queries, 1},
                          {batches, heads, queries, keys},
                          {batches, heads, queries, Choice::picks}};
  std::fill_n(r.picks.data(), r.picks.size(), index_type(-1));
  std::fill_n(r.compared.data(), r.compared.size(), none);
  std::fill_n(r.lse.data(), r.lse.size(), none);

  call.each_head(
      [&](const auto& head) {
        const index_type b = head.at.batch, h = head.at.head;
        const reference_head& V_ = head.v;
        double sink_logit = none;
        if constexpr (sink_like<decltype(sink)>) sink_logit = static_cast<double>(sink.logit(h));
        for (index_type i = 0; i < head.q.rows; ++i) {
          std::vector<double> logits;
          for (index_type j = 0; j < head.k.rows; ++j) logits.push_back(head.logit(i, j));
          const double* const s = logits.data();
          double* const x = head.k.rows == 0 ? nullptr : &r.compared(b, h, i, 0);
          const auto noise = [&](index_type key) {
            if constexpr (Choice::samples)
              return choice.noise(head.at).template at<double>(std::int64_t(i), std::int64_t(key));
            return 0 * static_cast<double>(key);
          };
          double maximum = sink_logit, sum = 0;
          bool nan = false;
          for (index_type j = 0; j < head.k.rows; ++j)
            x[j] = s[j] + noise(j), maximum = std::max(maximum, s[j]), nan = nan || s[j] != s[j];
          for (index_type j = 0; j < head.k.rows; ++j)
            if (s[j] != none) sum += std::exp(s[j] - maximum);
          if (sink_logit != none) sum += std::exp(sink_logit - maximum);
          r.lse(b, h, i, 0) = sum == 0 ? none : maximum + std::log(sum);
          if (nan) {
            const double no_number = std::numeric_limits<double>::quiet_NaN();
            for (index_type c = 0; c < V_.cols; ++c) r.out(b, h, i, c) = no_number;
            for (int n = 0; n < Choice::picks; ++n) r.log_p(b, h, i, n) = no_number;
            r.lse(b, h, i, 0) = no_number;
            continue;
          }
          std::vector<index_type> order(static_cast<std::size_t>(head.k.rows));
          std::iota(order.begin(), order.end(), index_type(0));
          std::stable_sort(order.begin(), order.end(),
                           [&](index_type l, index_type m) { return x[l] > x[m]; });
          std::erase_if(order, [&](index_type j) { return s[j] == none; });
          if (static_cast<int>(order.size()) > Choice::picks)
            order.resize(static_cast<std::size_t>(Choice::picks));
          if (Choice::picks == 1 && sink_logit + noise(-1) > (order.empty() ? none : x[order[0]])) {
            r.log_p(b, h, i, 0) = sink_logit - r.lse(b, h, i, 0);
            continue;
          }
          double weights = Choice::picks > 1 && sink_logit != none ? std::exp(sink_logit - maximum) : 0;
          for (const index_type j : order) weights += std::exp(s[j] - maximum);
          for (std::size_t n = 0; n < order.size(); ++n) {
            const index_type j = order[n];
            r.picks(b, h, i, static_cast<index_type>(n)) = j;
            r.log_p(b, h, i, static_cast<index_type>(n)) = s[j] - r.lse(b, h, i, 0);
            for (index_type c = 0; c < V_.cols; ++c)
              r.out(b, h, i, c) += std::exp(s[j] - maximum) / weights * V_(j, c);
          }
        }
      },
      mods...);
  return r;
}

FOVEA_NAMESPACE_END
