// bench/workload/text.hpp - a workload from words, and in words.
#pragma once

#include "../models.hpp"
#include "check.hpp"
#include "words.hpp"

namespace bench {

/// Reads words key=value of known_keys, separated by commas, in any order, perhaps behind a model's name.
/// What is missing is as in `workload{}`, but Hkv = Hq, Lk = Lq, dv = d, kv = dtype. Throws
/// std::invalid_argument, naming the culprit.
inline workload parse_workload(std::string_view text) try {
  workload w;
  const std::string all = without_names(text);
  const auto words = split_words(all);
  const auto given = [&](std::string_view key) {
    return std::any_of(words.begin(), words.end(), [&](const word& x) { return x.key == key; });
  };
  const std::array<std::pair<std::string_view, index_type*>, 10> numbers{{{"B", &w.batch},
                                                                          {"Hq", &w.heads},
                                                                          {"Hkv", &w.kv_heads},
                                                                          {"Lq", &w.queries},
                                                                          {"Lk", &w.keys},
                                                                          {"d", &w.dim},
                                                                          {"dv", &w.value_dim},
                                                                          {"hidden", &w.hidden},
                                                                          {"top", &w.top},
                                                                          {"threads", &w.threads}}};
  for (const word& x : words) {
    const auto number =
        std::find_if(numbers.begin(), numbers.end(), [&](const auto& n) { return n.first == x.key; });
    if (number != numbers.end())
      *number->second = x.number(1, x.key == "threads" ? 1024 : largest);
    else if (x.key == "op")
      w.op = x.one_of(operation_names);
    else if (x.key == "index")
      read_index(w, x);
    else if (x.key == "rule")
      w.rule = x.one_of(rule_names);
    else if (x.key == "mask")
      read_mask(w, x);
    else if (x.key == "dtype")
      w.dtype = x.one_of(element_names);
    else if (x.key == "kv")
      w.kv = x.one_of(element_names);
    else if (x.key == "cache")
      read_cache(w, x);
    else if (x.key == "weights")
      w.weights = x.one_of(weights_names);
    else if (x.key == "lens")
      read_lengths(w, x);
    else if (x.key == "layout")
      w.layout = x.one_of(layout_names);
    else if (x.key == "with")
      w.with = x.one_of(modifier_names);
    else
      x.refuse_key();
  }
  if (!given("Hkv")) w.kv_heads = w.heads;
  if (!given("Lk")) w.keys = w.queries;
  if (!given("dv")) w.value_dim = w.dim;
  if (!given("kv")) w.kv = w.dtype;
  if (!given("index") && w.op == operation::dsa) w.index_heads = 64;
  if (!given("top") && w.op == operation::dsa) w.top = 2048;
  if (!given("hidden") && w.op == operation::additive) w.hidden = 64;
  if (w.cache != cache::none && w.mask == mask::none) w.mask = mask::causal;
  if (!w.lengths.empty()) w.keys = *std::max_element(w.lengths.begin(), w.lengths.end());
  check(w);
  return w;
} catch (const std::invalid_argument& e) {
  throw std::invalid_argument("workload \"" + std::string(text) + "\": " + e.what());
}

inline std::string lengths_text(const workload& w) {
  std::string text;
  for (const index_type n : w.lengths) text += (text.empty() ? ",lens=" : ":") + std::to_string(n);
  return text;
}

inline std::string mask_text(const workload& w) {
  std::string text(name_of(mask_names, w.mask));
  if (has_size(w.mask)) text += ":" + std::to_string(w.mask_size);
  char share[32];
  if (has_share(w.mask)) text.append(":").append(share, std::to_chars(share, std::end(share), w.share).ptr);
  return text;
}

/// The same in words, every key present; parse_workload reads it back.
inline std::string to_text(const workload& w) {
  const auto n = [](const char* key, index_type value) { return key + ("=" + std::to_string(value)) + ","; };
  const std::string op = "op=" + std::string(name_of(operation_names, w.op)) + ",";
  return (w.op == operation::forward ? "" : op) + n("B", w.batch) + n("Hq", w.heads) + n("Hkv", w.kv_heads) +
         n("Lq", w.queries) + n("Lk", w.keys) + n("d", w.dim) + n("dv", w.value_dim) +
         (w.hidden == 0 ? "" : n("hidden", w.hidden)) +
         (w.op == operation::dsa ? "index=" + std::to_string(w.index_heads) + ":" +
                                       std::string(name_of(element_names, w.index)) + "," + n("top", w.top)
                                 : "") +
         (is_linear(w.op) ? "rule=" + std::string(name_of(rule_names, w.rule)) + "," : "") +
         "mask=" + mask_text(w) + ",dtype=" + std::string(name_of(element_names, w.dtype)) +
         ",kv=" + std::string(name_of(element_names, w.kv)) +
         (w.weights == weight_rounding::exact
              ? ""
              : ",weights=" + std::string(name_of(weights_names, w.weights))) +
         (w.cache == cache::none ? "" : ",cache=" + std::string(name_of(cache_names, w.cache))) +
         (w.cache == cache::paged ? ":" + std::to_string(w.page_tokens) : "") + lengths_text(w) +
         ",layout=" + std::string(name_of(layout_names, w.layout)) +
         (w.with == modifier::none ? "" : ",with=" + std::string(name_of(modifier_names, w.with))) +
         ",threads=" + std::to_string(w.threads);
}

}  // namespace bench
