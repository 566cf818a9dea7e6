// bench/workload.hpp - a shape to time, written in words: "B=1,Hq=8,Lq=1024,d=64,mask=causal,dtype=f32".
#pragma once

#include "models.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

using index_type = std::ptrdiff_t;

enum class element { f32, f64, bf16, f16, i8, f8, q4 };  // i8, f8 (E4M3) and q4 (4 bits): in a cache alone
enum class layout { bhsd, bshd, eigen, eigen_col };  // eigen: row-major, eigen_col: column-major
enum class operation {
  forward,
  backward,
  hard,  // argmax
  hard_sampled,
  additive,
  linear,
  decomposed,
  gate,  // an element of O
  differential,
  sigmoid,
  transformer_xl,
  talking_heads,
  cosine,
  luong,         // general: q W k
  weights_into,  // of the first head
  linear_backward,
  feature,  // elu + 1 in place of the softmax
  dsa       // an index chooses keys, attention reads those
};
enum class update_rule { linear, gated, gated_channels, delta, gated_delta, gated_delta_channels };
enum class mask {
  none,
  causal,
  window,
  blocks,
  topk,
  documents,
  prefix,
  tree,
  dilated,
  longformer,
  neighbourhood
};
enum class weight_rounding { exact, rounded };  // rounded: they may be, to what V is stored as
enum class cache { none, contiguous, paged, ring, latent };  // paged: in random order; latent: values are part of keys
enum class modifier {
  none,
  alibi,
  softcap,
  bias,
  boolean,
  lengths,
  sink,
  function,
  t5,
  swin,
  table
};  // function: alibi as a lambda; table: bias_table of signed distances

/// What a row of the benchmark computes. The queries stand at the last keys: the diagonal of causal, window
/// and prefix joins the last query to the last key, the last query's document is that of the last key. Drafts
/// of a tree are the last keys, each the child of the one at half its number; longformer's global tokens are
/// the first ones; a neighbourhood is of a square picture.
struct workload {
  operation op = operation::forward;
  index_type batch = 1, heads = 8, kv_heads = 8;  // B, Hq, Hkv
  index_type queries = 1024, keys = 1024;         // Lq, Lk
  index_type dim = 64, value_dim = 64;            // d, dv
  index_type hidden = 0;                          // of additive attention
  update_rule rule = update_rule::linear;         // of linear attention
  index_type index_heads = 0, top = 0;            // of op=dsa: heads of 128, and the keys that they choose
  element index = element::f32;                   // of its queries and keys
  bench::mask mask = mask::none;
  index_type mask_size = 0;  // window: keys before a query's own; blocks, documents: tokens; prefix: keys;
                             // tree: drafts; dilated: step; longformer: a side; neighbourhood: kernel's side
  double share = 0;          // blocks: of those of a row, how many are visible
  element dtype = element::f32, kv = element::f32;
  bench::layout layout = layout::bhsd;
  modifier with = modifier::none;
  weight_rounding weights = weight_rounding::exact;
  bench::cache cache = cache::none;
  index_type page_tokens = 16;
  std::vector<index_type> lengths = {};  // of a cache: keys of each sequence, where they differ
  index_type threads = 1;

  friend bool operator==(const workload&, const workload&) = default;
};

template <class E, std::size_t N = 4>
using names = std::array<std::pair<std::string_view, E>, N>;

inline constexpr names<element, 7> element_names{{{"f32", element::f32},
                                                  {"f64", element::f64},
                                                  {"bf16", element::bf16},
                                                  {"f16", element::f16},
                                                  {"i8", element::i8},
                                                  {"f8", element::f8},
                                                  {"q4", element::q4}}};
inline constexpr names<cache> cache_names{{{"contiguous", cache::contiguous},
                                           {"paged", cache::paged},
                                           {"ring", cache::ring},
                                           {"latent", cache::latent}}};
inline constexpr names<weight_rounding, 2> weights_names{
    {{"exact", weight_rounding::exact}, {"rounded", weight_rounding::rounded}}};
inline constexpr names<layout> layout_names{{{"bhsd", layout::bhsd},
                                             {"bshd", layout::bshd},
                                             {"eigen", layout::eigen},
                                             {"eigen_col", layout::eigen_col}}};

inline constexpr names<modifier, 11> modifier_names{{{"none", modifier::none},
                                                    {"alibi", modifier::alibi},
                                                    {"softcap", modifier::softcap},
                                                    {"bias", modifier::bias},
                                                    {"boolean", modifier::boolean},
                                                    {"lengths", modifier::lengths},
                                                    {"sink", modifier::sink},
                                                    {"function", modifier::function},
                                                    {"t5", modifier::t5},
                                                    {"swin", modifier::swin},
                                                    {"table", modifier::table}}};

inline constexpr names<mask, 11> mask_names{{{"none", mask::none},
                                             {"causal", mask::causal},
                                             {"window", mask::window},
                                             {"blocks", mask::blocks},
                                             {"documents", mask::documents},
                                             {"prefix", mask::prefix},
                                             {"tree", mask::tree},
                                             {"dilated", mask::dilated},
                                             {"longformer", mask::longformer},
                                             {"neighbourhood", mask::neighbourhood},
                                             {"topk", mask::topk}}};
inline constexpr bool has_size(mask m) { return m != mask::none && m != mask::causal; }
inline constexpr bool has_share(mask m) { return m == mask::blocks || m == mask::topk; }
inline constexpr index_type global_tokens = 16;  // of longformer
/// The masks that are timed with every element; those of which a row sees one interval of keys.
inline constexpr bool is_plain(mask m) { return m == mask::none || m == mask::causal || m == mask::window; }
inline constexpr bool has_intervals(mask m) {
  return is_plain(m) || m == mask::documents || m == mask::prefix;
}
inline constexpr bool needs_square(mask m) {
  return m == mask::dilated || m == mask::longformer || m == mask::neighbourhood;
}

inline constexpr names<update_rule, 6> rule_names{{{"linear", update_rule::linear},
                                                   {"gated", update_rule::gated},
                                                   {"gated_channels", update_rule::gated_channels},
                                                   {"delta", update_rule::delta},
                                                   {"gated_delta", update_rule::gated_delta},
                                                   {"gated_delta_channels", update_rule::gated_delta_channels}}};
inline bool is_linear(operation op) { return op == operation::linear || op == operation::linear_backward; }
inline bool has_decay(update_rule r) { return r != update_rule::linear && r != update_rule::delta; }
inline bool decays_channels(update_rule r) {
  return r == update_rule::gated_channels || r == update_rule::gated_delta_channels;
}
inline bool has_beta(update_rule r) { return r >= update_rule::delta; }

inline constexpr names<operation, 18> operation_names{{{"forward", operation::forward},
                                                      {"backward", operation::backward},
                                                      {"hard", operation::hard},
                                                      {"hard_sampled", operation::hard_sampled},
                                                      {"additive", operation::additive},
                                                      {"linear", operation::linear},
                                                      {"linear_backward", operation::linear_backward},
                                                      {"decomposed", operation::decomposed},
                                                      {"gate", operation::gate},
                                                      {"differential", operation::differential},
                                                      {"sigmoid", operation::sigmoid},
                                                      {"transformer_xl", operation::transformer_xl},
                                                      {"talking_heads", operation::talking_heads},
                                                      {"cosine", operation::cosine},
                                                      {"luong", operation::luong},
                                                      {"weights_into", operation::weights_into},
                                                      {"feature", operation::feature},
                                                      {"dsa", operation::dsa}}};
inline constexpr index_type index_dim = 128;  // of op=dsa

template <class E, std::size_t N>
std::string_view name_of(const names<E, N>& all, E value) {
  return std::find_if(all.begin(), all.end(), [&](const auto& n) { return n.second == value; })->first;
}

template <class E, std::size_t N>
std::string known_names(const names<E, N>& all, std::string_view between) {
  std::string text;
  for (const auto& n : all) text += (text.empty() ? "" : std::string(between)) + std::string(n.first);
  return text;
}

/// A mask's values in words, as none, window:N and blocks:N:S.
inline std::string known_masks(std::string_view between) {
  std::string text;
  for (const auto& [name, m] : mask_names)
    text += (text.empty() ? "" : std::string(between)) + std::string(name) + (has_size(m) ? ":N" : "") +
            (has_share(m) ? ":S" : "");
  return text;
}

/// What there is to know of a key: its values, what it is where it is missing, and what it means.
struct key_entry {
  std::string key, values, missing, meaning;
};

/// Every key of a workload, for errors and for --help.
inline std::vector<key_entry> known_keys() {
  const std::string elements = known_names(element_names, "|");
  return {
      {"op", known_names(operation_names, "|"), "forward", "what is timed"},
      {"B", "N", "1", "sequences"},
      {"Hq", "N", "8", "query heads"},
      {"Hkv", "N", "Hq", "key/value heads"},
      {"Lq", "N", "1024", "query tokens of a sequence"},
      {"Lk", "N", "Lq", "key tokens of a sequence"},
      {"d", "N", "64", "dim of a head of Q and K"},
      {"dv", "N", "d", "dim of a head of V"},
      {"hidden", "N", "64", "op=additive: columns of the projections, a head"},
      {"rule", known_names(rule_names, "|"), "linear", "op=linear, linear_backward: how a token changes the state"},
      {"index", "N|N:bf16", "64", "op=dsa: heads of the index, of 128 numbers in f32 or bf16"},
      {"top", "N", "2048", "op=dsa: keys that the index chooses for each query"},
      {"mask", known_masks("|"), "none", "with a cache: causal; blocks of N x N, a share S visible (topk: those that matter most, chosen by the call)"},
      {"dtype", elements, "f32", "elements of Q and O"},
      {"kv", elements, "dtype", "elements of K and V"},
      {"weights", known_names(weights_names, "|"), "exact", "in bf16: whether they may be rounded to it before P V"},
      {"cache", known_names(cache_names, "|") + "|paged:N", "no cache",
       "where K and V are kept; pages of N tokens"},
      {"lens", "N:N:...", "Lk each", "with a cache: the keys of each of B sequences"},
      {"layout", known_names(layout_names, "|"), "bhsd", "where elements lie"},
      {"with", known_names(modifier_names, "|"), "none", "a score, a sink or a mask; function: alibi as a lambda; swin: of one square window; table: of 257 clipped distances"},
      {"threads", "N", "1", "workers"}};
}

inline constexpr index_type largest = 1'000'000'000;  // of any number in a workload

/// A word of a workload: key=value.
struct word {
  std::string_view key, value;

  [[noreturn]] void refuse(const std::string& why) const {
    throw std::invalid_argument(std::string(key) + "=" + std::string(value) + ": " + why);
  }

  [[noreturn]] void refuse_key() const {
    std::string known;
    for (const auto& entry : known_keys()) known += (known.empty() ? "" : ", ") + entry.key;
    refuse("unknown key \"" + std::string(key) + "\"; known are " + known);
  }

  index_type number(index_type least, index_type most) const {
    index_type n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc{} || end != value.data() + value.size() || n < least || n > most)
      refuse("\"" + std::string(value) + "\" is not a whole number from " + std::to_string(least) + " to " +
             std::to_string(most));
    return n;
  }

  template <class E, std::size_t N>
  E one_of(const names<E, N>& all) const {
    for (const auto& [name, e] : all)
      if (name == value) return e;
    refuse("unknown value \"" + std::string(value) + "\"; known are " + known_names(all, ", "));
  }
};

/// causal, window:255, blocks:64:0.1: a name, its size, its share.
inline void read_mask(workload& w, const word& x) {
  const auto colon = std::min(x.value.find(':'), x.value.size());
  const auto known = std::find_if(mask_names.begin(), mask_names.end(),
                                  [&](const auto& n) { return n.first == x.value.substr(0, colon); });
  if (known == mask_names.end() || has_size(known->second) != (colon < x.value.size()))
    x.refuse("unknown value \"" + std::string(x.value) + "\"; known are " + known_masks(", "));
  w.mask = known->second;
  if (!has_size(w.mask)) return;
  std::string_view size = x.value.substr(colon + 1), share;
  if (has_share(w.mask)) {
    const auto second = std::min(size.find(':'), size.size());
    share = size.substr(std::min(second + 1, size.size())), size = size.substr(0, second);
    const auto [end, error] = std::from_chars(share.data(), share.data() + share.size(), w.share);
    if (error != std::errc{} || end != share.data() + share.size() || !(w.share > 0 && w.share <= 1))
      x.refuse("\"" + std::string(share) + "\" is not a share of the blocks, above 0 and at most 1");
  }
  const index_type least = w.mask == mask::window ? 0 : has_share(w.mask) ? 16 : 1;
  w.mask_size = word{x.key, size}.number(least, largest);
}

/// contiguous, ring, paged or paged:N, N tokens a page.
inline void read_cache(workload& w, const word& x) {
  constexpr std::string_view paged = "paged:";
  if (x.value.starts_with(paged)) {
    w.cache = cache::paged;
    w.page_tokens = word{x.key, x.value.substr(paged.size())}.number(1, largest);
  } else {
    w.cache = x.one_of(cache_names);
  }
}

/// 64, or 64:bf16.
inline void read_index(workload& w, const word& x) {
  const auto colon = std::min(x.value.find(':'), x.value.size());
  w.index_heads = word{x.key, x.value.substr(0, colon)}.number(1, 1024);
  if (colon < x.value.size())
    w.index = word{x.key, x.value.substr(colon + 1)}.one_of(
        names<element, 2>{{{"f32", element::f32}, {"bf16", element::bf16}}});
}

/// "70:1:5000".
inline void read_lengths(workload& w, const word& x) {
  for (std::string_view rest = x.value; !rest.empty();) {
    const auto end = std::min(rest.find(':'), rest.size());
    w.lengths.push_back(word{x.key, rest.substr(0, end)}.number(1, largest));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

inline std::vector<word> split_words(std::string_view text) {
  std::vector<word> words;
  for (bool more = true; more;) {
    const auto comma = text.find(',');
    const auto part = text.substr(0, comma);
    const auto equals = part.find('=');
    if (equals == part.npos) throw std::invalid_argument("\"" + std::string(part) + "\" is not key=value");
    const word next{part.substr(0, equals), part.substr(equals + 1)};
    for (const word& w : words)
      if (w.key == next.key) next.refuse("the key " + std::string(next.key) + " stands twice");
    words.push_back(next);
    more = comma != text.npos;
    text.remove_prefix(more ? comma + 1 : text.size());
  }
  return words;
}

inline index_type side_of_picture(const workload& w) {
  return static_cast<index_type>(std::lround(std::sqrt(double(w.keys))));
}

inline void check(const workload& w) {
  if (w.heads % w.kv_heads != 0)
    throw std::invalid_argument("Hq=" + std::to_string(w.heads) +
                                " is not a multiple of Hkv=" + std::to_string(w.kv_heads));
  if ((w.dtype == element::f64) != (w.kv == element::f64))
    throw std::invalid_argument("dtype=" + std::string(name_of(element_names, w.dtype)) + " beside kv=" +
                                std::string(name_of(element_names, w.kv)) + ": f64 is timed with f64 only");
  if (w.op != operation::forward &&
      (w.dtype != element::f32 || w.kv != element::f32 || w.cache != cache::none ||
       w.layout != layout::bhsd || w.with != modifier::none))
    throw std::invalid_argument("op=" + std::string(name_of(operation_names, w.op)) +
                                ": timed in f32 and bhsd, without modifiers");
  if ((w.op == operation::additive) != (w.hidden > 0))
    throw std::invalid_argument("hidden=" + std::to_string(w.hidden) + ": it goes with op=additive");
  if ((w.op == operation::dsa) != (w.index_heads > 0) || (w.op == operation::dsa) != (w.top > 0))
    throw std::invalid_argument("index=" + std::to_string(w.index_heads) + ", top=" + std::to_string(w.top) +
                                ": they go with op=dsa");
  if (w.op == operation::dsa && (w.batch != 1 || w.kv_heads != 1 || w.mask != mask::none || w.keys < w.queries ||
                                 w.value_dim > w.dim))
    throw std::invalid_argument("op=dsa: timed with B=1, Hkv=1, no mask, no more queries than keys and values that are "
                                "the first dv of d");
  if (w.op == operation::feature && ((w.mask != mask::none && w.mask != mask::causal) || w.queries != w.keys))
    throw std::invalid_argument("op=feature: timed with Lq = Lk, without a mask or causal");
  if (w.op == operation::differential && (w.heads % 2 != 0 || w.kv_heads % 2 != 0))
    throw std::invalid_argument("op=differential: Hq=" + std::to_string(w.heads) +
                                ", Hkv=" + std::to_string(w.kv_heads) + " are those of both softmaxes, even");
  if (!is_linear(w.op) && w.rule != update_rule::linear)
    throw std::invalid_argument("rule=" + std::string(name_of(rule_names, w.rule)) + ": it goes with op=linear");
  if (is_linear(w.op) && (w.queries != w.keys || w.mask != mask::none))
    throw std::invalid_argument("op=linear: timed with Lq = Lk, without a mask");
  const auto few_bits = [](element e) { return e == element::i8 || e == element::f8 || e == element::q4; };
  const auto name_of_element = [](element e) { return std::string(name_of(element_names, e)); };
  if (few_bits(w.dtype))
    throw std::invalid_argument("dtype=" + name_of_element(w.dtype) + ": " +
                                (w.dtype == element::i8 ? "int8" : name_of_element(w.dtype)) +
                                " is for kv, in a cache");
  if (few_bits(w.kv) && w.cache == cache::none)
    throw std::invalid_argument("kv=" + name_of_element(w.kv) + ": say which cache");
  if (w.kv == element::q4 && w.cache != cache::contiguous)
    throw std::invalid_argument("kv=q4: timed with cache=contiguous");
  if (w.kv == element::f8 && w.cache == cache::latent)
    throw std::invalid_argument("kv=f8: not timed with cache=latent");
  if (w.cache != cache::none &&
      ((w.dtype != element::f32 && (w.cache != cache::latent || w.dtype != element::bf16 || w.kv != w.dtype)) ||
       w.kv == element::f64 || (w.mask != mask::none && w.mask != mask::causal) || w.layout != layout::bhsd || w.with != modifier::none))
    throw std::invalid_argument("cache=" + std::string(name_of(cache_names, w.cache)) +
                                ": timed with dtype=f32 (latent: or dtype=bf16 with kv=bf16) in bhsd, causal, without modifiers");
  if (w.cache == cache::latent && w.value_dim > w.dim)
    throw std::invalid_argument("cache=latent: dv=" + std::to_string(w.value_dim) + " is no part of d=" +
                                std::to_string(w.dim));
  if (w.weights != weight_rounding::exact &&
      (w.dtype != element::bf16 || w.kv != element::bf16 || w.op != operation::forward))
    throw std::invalid_argument("weights=rounded: timed forward, with dtype=bf16 and kv=bf16");
  if (!w.lengths.empty() && (w.cache == cache::none || static_cast<index_type>(w.lengths.size()) != w.batch ||
                             *std::min_element(w.lengths.begin(), w.lengths.end()) < w.queries))
    throw std::invalid_argument("lens: one length, at least Lq, for each of B sequences, in a cache");
  if (w.cache != cache::none && w.lengths.empty() && w.keys < w.queries)
    throw std::invalid_argument("Lk=" + std::to_string(w.keys) + ": a cache has at least the Lq=" +
                                std::to_string(w.queries) + " tokens that ask");
  if (w.batch != 1 && (w.layout == layout::eigen || w.layout == layout::eigen_col))
    throw std::invalid_argument("B=" + std::to_string(w.batch) + ": an Eigen matrix holds one sequence");
  if (w.with != modifier::none &&
      ((w.mask != mask::none && !(w.with == modifier::sink && is_plain(w.mask))) || w.dtype != element::f32 || w.kv != element::f32 || w.layout != layout::bhsd))
    throw std::invalid_argument("with=" + std::string(name_of(modifier_names, w.with)) +
                                ": timed without a mask (sink: or with causal or a window), in f32 and bhsd only");
  if (!is_plain(w.mask) && (w.dtype != element::f32 || w.kv != element::f32 || w.keys < w.queries ||
                            (w.op != operation::forward && w.op != operation::backward)))
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) +
                                ": timed in f32, forward and backward, with no more queries than keys");
  if (w.mask == mask::topk && (w.op != operation::forward || w.batch != 1 || w.keys % w.mask_size != 0))
    throw std::invalid_argument("mask=topk: timed forward, of one sequence of whole blocks");
  if ((w.mask == mask::prefix || w.mask == mask::tree) && w.mask_size > w.keys)
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) + ":" +
                                std::to_string(w.mask_size) + ": more than Lk=" + std::to_string(w.keys));
  if (w.mask == mask::longformer && global_tokens > w.keys)
    throw std::invalid_argument("mask=longformer: fewer keys than its " + std::to_string(global_tokens) +
                                " global tokens");
  if (needs_square(w.mask) && w.queries != w.keys)
    throw std::invalid_argument("mask=" + std::string(name_of(mask_names, w.mask)) + ": timed with Lq = Lk");
  const index_type side = side_of_picture(w);
  if (w.mask == mask::neighbourhood && (side * side != w.keys || w.mask_size > side))
    throw std::invalid_argument("mask=neighbourhood: Lk=" + std::to_string(w.keys) +
                                " is no square picture that holds the kernel");
  if (w.op == operation::decomposed &&
      (w.mask != mask::none || w.queries != w.keys || side * side != w.keys))
    throw std::invalid_argument("op=decomposed: Lq=" + std::to_string(w.queries) + ", Lk=" + std::to_string(w.keys) +
                                ": timed without a mask, of a square grid");
  if (w.with == modifier::swin && (w.queries != w.keys || side * side != w.keys))
    throw std::invalid_argument("with=swin: Lq=" + std::to_string(w.queries) + ", Lk=" + std::to_string(w.keys) +
                                " is no square window");
  const double widest = double(std::max(w.dim, w.value_dim)) * double(w.batch) *
                        std::max(double(w.heads) * double(w.queries), double(w.kv_heads) * double(w.keys));
  if (widest > 1e12) throw std::invalid_argument("a tensor of more than 10^12 elements");
}

/// Reads words key=value of known_keys, separated by commas, in any order, perhaps behind the name of a model. What is missing is as in `workload{}`, but Hkv = Hq, Lk = Lq, dv = d, kv = dtype. Throws
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
         (is_linear(w.op) ? "rule=" + std::string(name_of(rule_names, w.rule)) + "," : "") + "mask=" + mask_text(w) +
         ",dtype=" + std::string(name_of(element_names, w.dtype)) +
         ",kv=" + std::string(name_of(element_names, w.kv)) +
         (w.weights == weight_rounding::exact ? "" : ",weights=" + std::string(name_of(weights_names, w.weights))) +
         (w.cache == cache::none ? "" : ",cache=" + std::string(name_of(cache_names, w.cache))) +
         (w.cache == cache::paged ? ":" + std::to_string(w.page_tokens) : "") + lengths_text(w) +
         ",layout=" + std::string(name_of(layout_names, w.layout)) +
         (w.with == modifier::none ? "" : ",with=" + std::string(name_of(modifier_names, w.with))) +
         ",threads=" + std::to_string(w.threads);
}

/// The keys that query i sees: [first, last), empty where a query stands before the first key. Of masks that
/// show an interval.
inline std::pair<index_type, index_type> visible_keys(const workload& w, index_type i) {
  if (w.mask == mask::none) return {0, w.keys};
  const index_type at = i + w.keys - w.queries, last = std::clamp<index_type>(at + 1, 0, w.keys);
  if (w.mask == mask::documents) {
    const index_type first = at / w.mask_size * w.mask_size;
    return {first, std::min(first + w.mask_size, w.keys)};
  }
  if (w.mask == mask::prefix) return {0, std::max(last, w.mask_size)};
  return {w.mask == mask::causal ? 0 : std::max<index_type>(last - 1 - w.mask_size, 0), last};
}

/// How many keys query i sees.
inline index_type keys_seen(const workload& w, index_type i) {
  const index_type at = i + w.keys - w.queries, tree = w.keys - w.mask_size, n = w.mask_size;
  if (w.mask == mask::tree && at >= tree)
    return tree + static_cast<index_type>(std::bit_width(static_cast<std::size_t>(at - tree + 1)));
  if (w.mask == mask::tree) return at + 1;
  if (w.mask == mask::dilated) return at / n + (w.keys - 1 - at) / n + 1;
  if (w.mask == mask::longformer && at < global_tokens) return w.keys;
  if (w.mask == mask::longformer) {
    const index_type first = std::max<index_type>(at - n, 0), last = std::min(at + n, w.keys - 1) + 1;
    return last - first + std::min(first, global_tokens);
  }
  if (w.mask == mask::neighbourhood) return n * n;
  const auto [first, last] = visible_keys(w, i);
  return last - first;
}

/// How many blocks of keys a row of blocks shows, of blocks and topk.
inline index_type blocks_a_row(const workload& w) {
  const index_type columns = (w.keys + w.mask_size - 1) / w.mask_size;
  return std::max<index_type>(std::llround(w.share * double(columns)), 1);
}

/// For mask=blocks: whether the block of keys j is visible to that of queries i, at [i * columns + j]. A row
/// sees a share of its blocks, at least one, chosen at random from a fixed seed.
inline std::vector<char> visible_blocks(const workload& w) {
  const index_type rows = (w.queries + w.mask_size - 1) / w.mask_size,
                   columns = (w.keys + w.mask_size - 1) / w.mask_size, shown = blocks_a_row(w);
  std::vector<char> map;
  std::mt19937 bits(1);
  for (index_type i = 0; i < rows; ++i) {
    for (index_type j = 0; j < columns; ++j) map.push_back(j < shown);
    std::shuffle(map.end() - columns, map.end(), bits);
  }
  return map;
}

/// Cells (query, key) that count as useful work in one head. Causal counts half of the square, as the field
/// does: the diagonal's own half is left out.
inline double useful_cells(const workload& w) {
  const double queries = double(w.queries), keys = double(w.keys);
  if (w.mask == mask::none) return queries * keys;
  if (w.mask == mask::causal) return keys >= queries ? queries * (keys - queries / 2) : keys * keys / 2;
  if (w.mask == mask::topk) return queries * double(blocks_a_row(w) * w.mask_size);
  double cells = 0;
  if (w.mask == mask::blocks) {
    const std::vector<char> map = visible_blocks(w);
    const index_type side = w.mask_size, columns = (w.keys + side - 1) / side;
    for (index_type n = 0; n < static_cast<index_type>(map.size()); ++n)
      if (map[static_cast<std::size_t>(n)] != 0)
        cells += double(std::min(side, w.queries - n / columns * side)) *
                 double(std::min(side, w.keys - n % columns * side));
    return cells;
  }
  for (index_type i = 0; i < w.queries; ++i) cells += double(keys_seen(w, i));
  return cells;
}

/// Useful floating-point operations: 2 (d + dv) a cell and head (op=hard: 2 d; op=additive: 2 hidden + 2 dv, a tanh
/// counted as one; op=linear: 4 d dv a token and head, op=linear_backward: 10 d dv, states made again as scores are;
/// op=feature: 4 d dv a query token and head; op=dsa: 2 (d + dv) of the chosen cells and 256 of every cell and head of
/// the index; op=differential: 2 d + 4 dv; op=transformer_xl: 4 d + 2 dv;
/// op=talking_heads: 2 (d + dv) + 4 Hq), which is 4 Lq Lk d where dv = d and nothing
/// is masked; backward 6 d + 4 dv, which is 10 Lq Lk d.
inline double useful_flops(const workload& w) {
  if (!w.lengths.empty()) {
    double sum = 0;
    for (workload one = w; const index_type n : w.lengths) {
      one.lengths.clear(), one.batch = 1, one.keys = n;
      sum += useful_flops(one);
    }
    return sum;
  }
  if (w.op == operation::feature)
    return 4.0 * double(w.dim * w.value_dim) * double(w.queries) * double(w.batch * w.heads);
  if (w.op == operation::dsa)
    return double(w.queries) * (2.0 * double(w.heads * (w.dim + w.value_dim)) * double(std::min(w.top, w.keys)) +
                                2.0 * double(w.index_heads * index_dim) * double(w.keys));
  if (is_linear(w.op))
    return (w.op == operation::linear ? 4.0 : 10.0) * double(w.dim * w.value_dim) * double(w.queries) *
           double(w.batch * w.heads);
  const double a_cell = w.op == operation::differential     ? 2.0 * double(w.dim + 2 * w.value_dim)
                        : w.op == operation::transformer_xl ? 2.0 * double(2 * w.dim + w.value_dim)
                        : w.op == operation::talking_heads  ? 2.0 * double(w.dim + w.value_dim + 2 * w.heads)
                        : w.op == operation::forward || w.op >= operation::decomposed
                            ? 2.0 * double(w.dim + w.value_dim)
                        : w.op == operation::backward ? 6.0 * double(w.dim) + 4.0 * double(w.value_dim)
                        : w.op == operation::additive ? 2.0 * double(w.hidden + w.value_dim)
                                                      : 2.0 * double(w.dim);
  return a_cell * useful_cells(w) * double(w.batch * w.heads);
}

inline index_type bytes_of(element e) {
  return e == element::f64 ? 8 : e == element::f32 ? 4 : e == element::i8 || e == element::f8 ? 1 : 2;
}

/// Bytes of K and V, each read once: the least a decode step can move. int8 has scales beside: of keys a
/// channel and 32 tokens, of values a token; 4 bits too, and of values a share of it each 32 channels. op=linear: of states, read and written once;
/// op=dsa: of the index's keys, and of the rows that one query chooses.
inline double kv_bytes(const workload& w) {
  if (is_linear(w.op))
    return 2.0 * double(w.batch * w.kv_heads) * double(w.dim * w.value_dim) * double(bytes_of(w.dtype));
  double tokens = double(w.batch * w.keys);
  if (!w.lengths.empty()) tokens = 0;
  for (const index_type n : w.lengths) tokens += double(n);
  if (w.op == operation::dsa)
    return double(w.keys * index_dim * bytes_of(w.index)) + double(std::min(w.top, w.keys) * w.dim) * 4;
  if (w.cache == cache::latent)
    return tokens * double(w.kv_heads) * double(w.dim) * (double(bytes_of(w.kv)) + (w.kv == element::i8 ? 4.0 / 32 : 0));
  if (w.kv == element::q4)
    return tokens * double(w.kv_heads) *
           (double(w.dim) * (0.5 + 4.0 / 32) + double(w.value_dim) * (0.5 + 1.0 / 32) + 4);
  const double scales = w.kv == element::i8 ? 4.0 * double(w.dim) / 32 + 4 : 0;
  return tokens * double(w.kv_heads) * (double(w.dim + w.value_dim) * double(bytes_of(w.kv)) + scales);
}

}  // namespace bench
