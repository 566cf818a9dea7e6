// fovea/distributed/call_rules.hpp - the masks, scores, sink and dropout of a call over ranks, checked on all
// of them together.
#pragma once

#include <fovea/distributed/rule_probes.hpp>
#include <fovea/mask/intersection.hpp>

#include <optional>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// The masks, scores, sink and dropout of a call, which speak of whole sequences; references to the user's.
template <class Rules, class Sink, class Dropout>
struct rules_of_call {
  using rules_type = Rules;
  using sink_type = std::remove_cvref_t<Sink>;
  using dropout_type = std::remove_cvref_t<Dropout>;
  Rules rules;
  Sink sink;
  Dropout dropout;
};
template <class... Mods>
auto whole_rules(const Mods&... mods) noexcept {
  return rules_of_call<decltype(rules_of<mask_intersection>(mods...)), decltype(sink_of(mods...)),
                       decltype(dropout_of(mods...))>{rules_of<mask_intersection>(mods...), sink_of(mods...),
                                                      dropout_of(mods...)};
}

/// A number made of what the masks of a call show of 16 x 16 blocks of each sequence, as far as they tell
/// without being asked for cells, and of its dropout.
template <class Rules>
std::int64_t fingerprint_of(const Rules& all, const ring_sizes& sizes, bool in_cache) {
  using rules = typename Rules::rules_type;
  digest all_numbers;
  const auto add = [&](auto x) { all_numbers.add(x); };
  add(rules::matrices), add(rules::natural), add(rules::hide), add(Rules::dropout_type::drops);
  if constexpr (requires { all.dropout.seed, all.dropout.rate; })
    add(all.dropout.seed), add(std::bit_cast<std::uint64_t>(static_cast<double>(all.dropout.rate)));
  if constexpr (!shows_all<std::remove_cvref_t<decltype(all.rules.mask)>>)
    for (index_type b = 0; b < sizes.batches; ++b)
      for (index_type h = 0; h < sizes.heads; h += std::max<index_type>(sizes.heads - 1, 1)) {
        place at = sizes.place_of(b).whole(h);
        at.in_cache = in_cache;
        decltype(auto) mask = bind_to(all.rules.mask, at);
        const auto part = [](index_type tokens, index_type i) {
          return range{tokens * i / 16, std::max(tokens * (i + 1) / 16, tokens * i / 16 + 1)};
        };
        for (index_type i = 0; i < 16 && at.queries >= 16; ++i) {
          const range rows = part(at.queries, i), reach = reach_of(mask, rows, at.keys);
          add(reach.first), add(reach.last);
          for (index_type j = 0; j < 16 && at.keys >= 16; ++j)
            add(static_cast<int>(cover_of(mask, rows, part(at.keys, j))));
        }
      }
  return all_numbers.value();
}

/// Whether rules, sink and dropout fit the whole sequences and are alike on all ranks, as far as that can be
/// told: by the lists and matrices that they read (of more than 65,536 numbers some), by what they say of
/// some cells, and by what masks say of blocks. prepare() is what else may fail before the exchange: memory
/// for it.
template <class Compute, class Rules, class Prepare>
void agree_on_rules(const communicator& processes, const Rules& all, const ring_sizes& sizes,
                    const Prepare& prepare, bool in_cache = false) {
  std::optional<rule_probes<Rules>> probes;
  std::int64_t own[3] = {};
  together(processes, [&] {
    for (index_type b = 0; b < sizes.batches; ++b) {
      place at = sizes.place_of(b).whole(0);
      at.in_cache = in_cache;
      if (Rules::rules_type::asks || Rules::dropout_type::drops) check_positions(at);
      all.rules.check(at), check_score_at(all.dropout, at);
      if constexpr (sink_like<typename Rules::sink_type>) check_score_at(all.sink, at);
    }
    all.rules.template check_numbers<Compute>(), check_numbers_of<Compute>(all.sink);
    probes.emplace(all, sizes, in_cache);
    own[0] = probes->kinds(), own[1] = probes->numbers(), own[2] = fingerprint_of(all, sizes, in_cache);
    prepare();
  });
  const numbers_of_ranks of_all(processes, own);
  const auto settle = [&](index_type i, const auto& reject_of) {
    for (int r = 1; r < processes.ranks(); ++r)
      if (of_all.at(r, i) != of_all.at(0, i)) reject_of(r);
  };
  const auto as_number = [&](index_type i, const char* name) {
    settle(i, [&](int r) {
      reject(name, " is ", of_all.at(r, i), " on rank ", r, " but ", of_all.at(0, i), " on rank 0");
    });
  };
  as_number(0, "the number that kinds of masks and scores are told by");
  settle(1, [&](int) { probes->settle(processes); });
  as_number(2, "the number that masks and dropout are told by");
}

}  // namespace distributed
FOVEA_NAMESPACE_END
